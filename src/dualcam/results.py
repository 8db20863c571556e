"""A folder of results: ``run.json``, ``results.jsonl`` and panels; continued where an earlier run stopped.

docs/results-format.md describes the format; `RESULTS_VERSION` changes with it.
"""

import os
import unicodedata
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any, Self, TypedDict, cast

from dualcam.files import write_json
from dualcam.journal import Journal, read_lines

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


class Results(Journal):
    """The results in ``folder``: panels and their lines, which are records."""

    RUN, LINES = RUN, LINES
    VERSION = ("results_version", RESULTS_VERSION)
    KEYS = frozenset(PhotoRecord.__annotations__)
    STAYS = ("folder", "versions", "scale")
    KIND = ("a result", "results")

    def __init__(self, folder: Path, run: Mapping[str, Any], *, overwrite: bool = False) -> None:
        super().__init__(folder, run, overwrite=overwrite)
        self._panels = {
            _folded(line["panel"]): self.path_of(line["photo"]) for line in self.lines() if line["panel"] is not None
        }

    def __enter__(self) -> Self:
        super().__enter__()
        (self.folder / PANELS).mkdir(exist_ok=True)
        return self

    def clear(self) -> None:
        """Remove the panels of earlier runs."""
        if (self.folder / RUN).exists():
            for file in (*(self.folder / PANELS).glob("*.png"), *(self.folder / DRAFTS).glob("*.npz")):
                file.unlink()

    def forget_panels(self, scale: dict[str, float]) -> None:
        """Take out the lines of panels, which are drawn again, for another ``scale``; it is noted in ``run.json``."""
        self.keep(lambda line: line["panel"] is None)
        self.done.clear()
        self.run["scale"] = scale
        write_json(self.folder / RUN, self.run)

    def add(self, record: PhotoRecord) -> None:
        """Add a line."""
        self.append(record)

    def panel_of(self, name: str) -> str:
        """Return the path of the photo's panel in the folder; no two photos share one, whatever their folders."""
        key, stem = self.path_of(name), Path(name).stem
        short = os.fsencode(stem)[:LONGEST_NAME].decode(errors="ignore")
        panel = f"{PANELS}/{short}.png"
        if short != stem or self._panels.setdefault(_folded(panel), key) != key:
            panel = f"{PANELS}/{short}-{_digest(key)}.png"
            self._panels[_folded(panel)] = key
        return panel

    def draft_of(self, name: str) -> Path:
        """Return the path of the photo's sheet, which waits for a scale that all photos share."""
        return self.folder / DRAFTS / f"{_digest(self.path_of(name))}.npz"


def read_records(path: Path) -> Iterator[PhotoRecord]:
    """Yield the records of a ``results.jsonl``; see `dualcam.journal.read_lines`."""
    for record in read_lines(path, Results.KEYS, Results.KIND[0]):
        yield cast("PhotoRecord", record)


def _digest(key: str) -> str:
    return blake2b(os.fsencode(key), digest_size=8).hexdigest()


def _folded(name: str) -> str:
    """Return what file systems that know no case, or their own Unicode form, make of ``name``."""
    return unicodedata.normalize("NFC", name).casefold()
