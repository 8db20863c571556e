"""Lines of JSON about photos, added one by one, that outlive a kill: a torn last line is passed over.

Photos are told apart by their absolute paths; relative names start at the folder where the first run was started.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, ClassVar, Self

from dualcam.errors import CheckpointError
from dualcam.files import write_json, write_whole


class Journal:
    """A folder with a line a photo, and a description of the run that writes them; continued where one stopped.

    Lines are added inside a ``with`` block. ``run`` is what the description says: its "model" and "settings" have to
    agree with those of an earlier run, else `CheckpointError`; its ``STAYS`` remain as the first run set them. With
    ``overwrite`` what earlier runs wrote is removed, and nothing else.
    """

    RUN: ClassVar[str]
    LINES: ClassVar[str]
    VERSION: ClassVar[tuple[str, int]]
    KEYS: ClassVar[frozenset[str]]
    STAYS: ClassVar[tuple[str, ...]]
    KIND: ClassVar[tuple[str, str]]
    """What one line is, and what all are."""

    def __init__(self, folder: Path, run: Mapping[str, Any], *, overwrite: bool = False) -> None:
        self.folder = folder
        self.run: dict[str, Any] = dict([self.VERSION]) | dict(run)
        self._stream: IO[bytes] | None = None
        if folder.exists() and not folder.is_dir():
            raise CheckpointError(f"{folder} is a file; expected a directory for the {self.KIND[1]}")
        if overwrite:
            self.clear()
            for name in (self.LINES, self.RUN):
                (folder / name).unlink(missing_ok=True)
        else:
            self.run |= self._continued()
        self.done = {self.path_of(line["photo"]) for line in self.lines() if line["error"] is None}

    def clear(self) -> None:
        """Remove what earlier runs wrote besides lines and description, which are still there."""

    def __enter__(self) -> Self:
        write_json(self.folder / self.RUN, self.run)
        self.keep(lambda _: True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        assert self._stream is not None
        self._stream.close()

    def name_of(self, photo: str) -> str:
        """Return how ``photo`` is called here: as the user did, or by its whole path from another folder."""
        return photo if self.run["folder"] == str(Path.cwd()) else os.path.abspath(photo)  # noqa: PTH100

    def path_of(self, name: str) -> str:
        """Return the absolute path of the photo called ``name``."""
        return os.path.normpath(os.path.join(self.run["folder"], name))  # noqa: PTH118

    def is_done(self, name: str) -> bool:
        """Whether the photo called ``name`` has a line without an error."""
        return self.path_of(name) in self.done

    def forget_errors(self, names: Iterable[str]) -> None:
        """Take out the errors about the photos called ``names``, which are tried again."""
        again = {self.path_of(name) for name in names}
        self.keep(lambda line: line["error"] is None or self.path_of(line["photo"]) not in again)

    def keep(self, wanted: Callable[[Mapping[str, Any]], bool]) -> None:
        """Write the lines anew, whole or not at all, with the ``wanted`` ones; a torn last line goes."""
        if self._stream is not None:
            self._stream.close()
        path = self.folder / self.LINES
        with write_whole(path) as temporary, temporary.open("wb") as stream:
            stream.writelines(encode_line(line) for line in self.lines() if wanted(line))
        self._stream = path.open("ab")

    def append(self, line: Mapping[str, Any]) -> None:
        """Add ``line``."""
        assert self._stream is not None, "lines are added inside the with block"
        self._stream.write(encode_line(line))
        self._stream.flush()

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield the lines, without a torn last one; raises `CheckpointError` for a whole line that is none of ours."""
        return read_lines(self.folder / self.LINES, self.KEYS, self.KIND[0])

    def _continued(self) -> dict[str, Any]:
        """Return what stays as an earlier run said; raises `CheckpointError` where they do not agree."""
        path, version = self.folder / self.RUN, self.VERSION[0]
        if not path.exists():
            if (self.folder / self.LINES).exists():
                raise CheckpointError(
                    f"{self.folder} has {self.LINES} but no {self.RUN}; take another folder, or start over: --overwrite"
                )
            return {}
        try:
            earlier: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            before, now = decisive(earlier, version), decisive(json.loads(json.dumps(self.run)), version)
            stays = {key: earlier[key] for key in self.STAYS}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{path} is damaged ({error!r}); start over: --overwrite") from error
        changed = changes(before, now)
        if changed:
            raise CheckpointError(
                f"{self.folder} holds {self.KIND[1]} of other settings: {changed}; take another folder, or --overwrite"
                " them"
            )
        return stays


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


def decisive(run: Mapping[str, Any], version: str) -> dict[str, Any]:
    """Return what of ``run`` has to agree if lines are to stand in one file: ``version``, model, settings."""
    model = {f"model {key}": value for key, value in run["model"].items()}
    return {version: run[version], **model, **run["settings"]}


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return in words what differs, nothing where nothing does."""
    keys = [*now, *(key for key in before if key not in now)]
    found = [f"{key} was {before.get(key)!r}, now {now.get(key)!r}" for key in keys if before.get(key) != now.get(key)]
    return "; ".join(found)
