"""The checker that lies with the reference results, run on ours."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


def test_the_checker_finds_no_difference(goldens_folder: Path) -> None:
    checker, stored = goldens_folder / "check_wsol.py", goldens_folder / "wsol_open.npz"
    if not (checker.is_file() and stored.is_file()):
        pytest.skip(f"{goldens_folder} lacks check_wsol.py or wsol_open.npz")
    done = subprocess.run(
        [sys.executable, str(checker), str(stored), "wsol_adapter"],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SKIP" not in done.stdout
    assert ", 0 failed, 0 not implemented" in done.stdout
