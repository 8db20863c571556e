"""The command in a process of its own, as a user starts it."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def program(*arguments: object) -> list[str]:
    """Return the words that start ``dualcam`` with ``arguments``."""
    return [sys.executable, "-m", "dualcam", *map(str, arguments)]


def loads_for_help(command: str, modules: set[str]) -> tuple[str, set[str]]:
    """Return what ``dualcam COMMAND --help`` says, and which of ``modules`` it has loaded."""
    code = (
        f"import sys; from dualcam.cli.main import run; run([{command!r}, '--help']); "
        f"print(*({modules!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout, set(done.stderr.split())


def kill_after_lines(arguments: list[str], file: Path, count: int) -> bytes:
    """Start ``arguments``, kill the process once ``file`` has ``count`` lines, and return what is in it then."""
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    limit = time.monotonic() + 120
    while time.monotonic() < limit and process.poll() is None:
        if file.exists() and len(file.read_bytes().splitlines()) >= count:
            break
        time.sleep(0.01)
    assert process.poll() is None, "the run ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return file.read_bytes()


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Return the objects of a file of JSON lines."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
