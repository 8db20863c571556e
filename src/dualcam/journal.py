"""Lines of JSON about photos, added one by one, that outlive a kill: a torn last line is passed over.

Photos are told apart by their absolute paths; relative names start at the folder where the first run was started.
"""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dualcam.errors import CheckpointError


def encode_line(record: Mapping[str, Any]) -> bytes:
    """Return ``record`` as one line of JSON in UTF-8."""
    # File names that are no UTF-8 hold lone surrogates; their backslash form is what JSON writes for them too.
    text = json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace") + b"\n"


def read_lines(path: Path, keys: frozenset[str], kind: str) -> Iterator[dict[str, Any]]:
    """Yield the records of ``path``, none where there is no file; a torn last line is left out.

    Raises `CheckpointError` for a whole line that is no object of ``keys``; ``kind`` says what it should have been.
    """
    if not path.exists():
        return
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            if not line.endswith(b"\n"):
                return
            try:
                record = json.loads(line)
            except ValueError:
                record = None
            if not isinstance(record, dict) or record.keys() != keys:
                raise CheckpointError(f"{path}, line {number} is not {kind}; repair it, or start over: --overwrite")
            yield record


def name_of(photo: str, home: str) -> str:
    """Return how ``photo`` is called in lines that start at ``home``: as given there, else by its whole path."""
    return photo if home == str(Path.cwd()) else os.path.abspath(photo)  # noqa: PTH100


def path_of(name: str, home: str) -> str:
    """Return the absolute path of the photo called ``name`` in lines that start at ``home``."""
    return os.path.normpath(os.path.join(home, name))  # noqa: PTH118


def decisive(run: Mapping[str, Any], version: str) -> dict[str, Any]:
    """Return what of ``run`` has to agree if lines are to stand in one file: ``version``, model, settings."""
    model = {f"model {key}": value for key, value in run["model"].items()}
    return {version: run[version], **model, **run["settings"]}


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return in words what differs, nothing where nothing does."""
    keys = [*now, *(key for key in before if key not in now)]
    found = [f"{key} was {before.get(key)!r}, now {now.get(key)!r}" for key in keys if before.get(key) != now.get(key)]
    return "; ".join(found)
