"""A folder of results: ``run.json``, ``results.jsonl`` and panels; continued where an earlier run stopped.

docs/results-format.md describes the format; `RESULTS_VERSION` changes with it.
"""

import json
import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import IO, Any, TypedDict, cast

from dualcam.errors import CheckpointError
from dualcam.files import write_json, write_whole
from dualcam.journal import changes, decisive, encode_line, name_of, path_of, read_lines

RESULTS_VERSION = 1
RUN, LINES, PANELS, DRAFTS = "run.json", "results.jsonl", "panels", "drafts"
LONGEST_NAME = 120
"""Bytes of a photo's name that its panel's name keeps; file systems allow 255, and suffixes come on top."""


class ClassRecord(TypedDict):
    """One class of a photo; boxes are [x0, y0, x1, y1, score]: XYXY, half-open, in pixels of the upright photo."""

    index: int
    name: str
    probability: float
    softmax_logit: float
    sigmoid_logit: float
    boxes: list[list[float]]


class PhotoRecord(TypedDict):
    """One line of ``results.jsonl``: either ``error`` says why the photo was skipped, or the rest is known."""

    photo: str
    error: str | None
    width: int | None
    height: int | None
    panel: str | None
    classes: list[ClassRecord]


class Results:
    """The results in ``folder``, to which lines are added inside a ``with`` block.

    ``run`` is what ``run.json`` says; an earlier run of other "settings" or of another "model" raises
    `CheckpointError`, unless ``overwrite``: then its results are removed. Photos are told apart by their paths,
    relative ones start at ``run["folder"]``, where the first run was started.
    """

    def __init__(self, folder: Path, run: dict[str, Any], *, overwrite: bool = False) -> None:
        self.folder = folder
        self.run: dict[str, Any] = {"results_version": RESULTS_VERSION, **run}
        self._stream: IO[bytes] | None = None
        self._panels: dict[str, str] = {}
        if overwrite:
            _clear(folder)
        else:
            self.run |= _continued(folder, self.run)
        self._done: set[str] = set()
        for record in read_records(folder / LINES):
            if record["panel"] is not None:
                self._done.add(self._key(record["photo"]))
                self._panels[_folded(record["panel"])] = self._key(record["photo"])

    def __enter__(self) -> "Results":
        write_json(self.folder / RUN, self.run)
        (self.folder / PANELS).mkdir(exist_ok=True)
        self.keep(lambda _: True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        assert self._stream is not None
        self._stream.close()

    def name_of(self, photo: str) -> str:
        """Return how ``photo`` is called in the results: as the user did, or by its whole path from another folder."""
        return name_of(photo, self.run["folder"])

    def is_done(self, name: str) -> bool:
        """Whether the photo called ``name`` has a panel."""
        return self._key(name) in self._done

    def forget_errors(self, names: Iterable[str]) -> None:
        """Take out the lines with errors about the photos called ``names``, which are tried again."""
        again = {self._key(name) for name in names}
        self.keep(lambda record: record["panel"] is not None or self._key(record["photo"]) not in again)

    def forget_panels(self, scale: dict[str, float]) -> None:
        """Take out the lines of panels, which are drawn again, for another ``scale``; it is noted in ``run.json``."""
        self.keep(lambda record: record["panel"] is None)
        self._done.clear()
        self.run["scale"] = scale
        write_json(self.folder / RUN, self.run)

    def keep(self, wanted: Callable[[PhotoRecord], bool]) -> None:
        """Write ``results.jsonl`` anew, whole or not at all, with the ``wanted`` lines; a torn last line goes."""
        if self._stream is not None:
            self._stream.close()
        with write_whole(self.folder / LINES) as temporary, temporary.open("wb") as stream:
            stream.writelines(encode_line(record) for record in read_records(self.folder / LINES) if wanted(record))
        self._stream = (self.folder / LINES).open("ab")

    def add(self, record: PhotoRecord) -> None:
        """Add a line."""
        assert self._stream is not None, "lines are added inside the with block"
        self._stream.write(encode_line(record))
        self._stream.flush()

    def panel_of(self, name: str) -> str:
        """Return the path of the photo's panel in the folder; no two photos share one, whatever their folders."""
        key, stem = self._key(name), Path(name).stem
        short = os.fsencode(stem)[:LONGEST_NAME].decode(errors="ignore")
        panel = f"{PANELS}/{short}.png"
        if short != stem or self._panels.setdefault(_folded(panel), key) != key:
            panel = f"{PANELS}/{short}-{_digest(key)}.png"
            self._panels[_folded(panel)] = key
        return panel

    def draft_of(self, name: str) -> Path:
        """Return the path of the photo's sheet, which waits for a scale that all photos share."""
        return self.folder / DRAFTS / f"{_digest(self._key(name))}.npz"

    def _key(self, photo: str) -> str:
        return path_of(photo, self.run["folder"])


def read_records(path: Path) -> Iterator[PhotoRecord]:
    """Yield the records of a ``results.jsonl``; see `dualcam.journal.read_lines`."""
    for record in read_lines(path, frozenset(PhotoRecord.__annotations__), "a result"):
        yield cast("PhotoRecord", record)


def _continued(folder: Path, run: dict[str, Any]) -> dict[str, Any]:
    """Return what stays as an earlier run in ``folder`` said; raises `CheckpointError` where they do not agree."""
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"{folder} is a file; expected a directory for the results")
    path = folder / RUN
    if not path.exists():
        if (folder / LINES).exists():
            raise CheckpointError(f"{folder} has {LINES} but no {RUN}; take another folder, or start over: --overwrite")
        return {}
    try:
        earlier: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        before, now = decisive(earlier, "results_version"), decisive(run, "results_version")
        stays = {key: earlier[key] for key in ("folder", "versions", "scale")}
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged ({error!r}); start over: --overwrite") from error
    changed = changes(before, now)
    if changed:
        raise CheckpointError(
            f"{folder} holds results of other settings: {changed}; take another folder, or --overwrite them"
        )
    return stays


def _clear(folder: Path) -> None:
    """Remove the earlier results in ``folder``, and nothing else."""
    if (folder / RUN).exists():
        for file in (*(folder / PANELS).glob("*.png"), *(folder / DRAFTS).glob("*.npz")):
            file.unlink()
    (folder / LINES).unlink(missing_ok=True)
    (folder / RUN).unlink(missing_ok=True)


def _digest(key: str) -> str:
    return blake2b(os.fsencode(key), digest_size=8).hexdigest()


def _folded(name: str) -> str:
    """Return what file systems that know no case, or their own Unicode form, make of ``name``."""
    return unicodedata.normalize("NFC", name).casefold()
