"""A folder of annotations: ``annotate.json`` and ``annotations.jsonl``; continued where an earlier run stopped.

A line of ``annotations.jsonl`` is a finished photo, or why one could not be read. The formats' files are made of it.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dualcam.annotation import Annotation, ClassRegions, Region
from dualcam.errors import CheckpointError
from dualcam.files import write_json
from dualcam.journal import Journal

VERSION = 1
RUN, LINES, SUMMARY = "annotate.json", "annotations.jsonl", "summary.json"


class Ledger(Journal):
    """The annotations in ``folder``; ``run["outputs"]`` are the files that its formats wrote."""

    RUN, LINES = RUN, LINES
    VERSION = ("annotations_version", VERSION)
    KEYS = frozenset({"photo", "error", "width", "height", "classes"})
    STAYS = ("folder", "versions", "outputs")
    KIND = ("an annotation", "annotations")

    def __init__(self, folder: Path, run: Mapping[str, Any], *, overwrite: bool = False) -> None:
        super().__init__(folder, {"folder": str(Path.cwd()), "outputs": {}, **run}, overwrite=overwrite)

    def clear(self) -> None:
        """Remove the files that earlier runs' formats wrote."""
        try:
            outputs = json.loads((self.folder / RUN).read_text(encoding="utf-8"))["outputs"]
            written = {self.folder / output for names in outputs.values() for output in names}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            written = set()
        for path in written:
            if path.is_dir():
                keep_only(path, frozenset())
                path.rmdir()
            else:
                path.unlink(missing_ok=True)

    def claim(self, name: str, outputs: Iterable[str]) -> None:
        """Note that ``outputs`` of the format ``name`` are this folder's own.

        Raises `CheckpointError` where they exist, but no run here has written them: they are somebody's work.
        """
        known: dict[str, list[str]] = self.run["outputs"]
        ours = {output for written in known.values() for output in written}
        foreign = [output for output in (*outputs, SUMMARY) if (self.folder / output).exists() and output not in ours]
        if foreign:
            raise CheckpointError(
                f"{self.folder} holds {', '.join(foreign)}, which no run of annotate has written; take another folder"
            )
        known[name] = [*outputs, SUMMARY]
        write_json(self.folder / RUN, self.run)

    def add(
        self, photo: str, size: tuple[int, int] | None, found: Iterable[ClassRegions] = (), error: str | None = None
    ) -> None:
        """Add a line: what was found in ``photo`` of ``size`` (width, height), or the error about it."""
        width, height = size or (None, None)
        classes = [
            {
                "index": item.index,
                "name": item.name,
                "score": item.score,
                "regions": [[list(region.box), region.evidence, list(region.counts)] for region in item.regions],
            }
            for item in found
        ]
        self.append(
            {"photo": self.name_of(photo), "error": error, "width": width, "height": height, "classes": classes}
        )

    def annotations(self) -> Iterator[Annotation]:
        """Yield the photos that are annotated, in the order of the lines."""
        for line in self.lines():
            if line["error"] is None:
                classes = tuple(
                    ClassRegions(
                        item["index"],
                        item["name"],
                        item["score"],
                        tuple(Region(tuple(box), share, tuple(counts)) for box, share, counts in item["regions"]),
                    )
                    for item in line["classes"]
                )
                yield Annotation(line["photo"], self.path_of(line["photo"]), line["width"], line["height"], classes)


def keep_only(folder: Path, names: Iterable[str]) -> None:
    """Remove the files in ``folder`` that are not called one of ``names``: those of an earlier export."""
    kept = frozenset(names)
    for path in folder.iterdir():
        if path.name not in kept and (path.is_symlink() or path.is_file()):
            path.unlink()
