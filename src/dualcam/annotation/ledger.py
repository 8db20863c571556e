"""A folder of annotations: ``annotate.json`` and ``annotations.jsonl``; continued where an earlier run stopped.

A line of ``annotations.jsonl`` is a finished photo, or why one could not be read. The formats' files are made of it.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from dualcam.annotation import Annotation, ClassRegions, Region
from dualcam.errors import CheckpointError
from dualcam.files import write_json, write_whole
from dualcam.journal import changes, decisive, encode_line, name_of, path_of, read_lines

VERSION = 1
RUN, LINES, SUMMARY = "annotate.json", "annotations.jsonl", "summary.json"
_KEYS = frozenset({"photo", "error", "width", "height", "classes"})


class Ledger:
    """The annotations in ``folder``; lines are added inside a ``with`` block.

    ``run`` is what ``annotate.json`` says: "model" and "settings" have to agree with those of an earlier run, else
    `CheckpointError`, unless ``overwrite``: then what earlier runs wrote is removed, and nothing else. Photos are told
    apart by their paths; relative ones start at ``run["folder"]``, where the first run was started.
    """

    def __init__(self, folder: Path, run: dict[str, Any], *, overwrite: bool = False) -> None:
        self.folder = folder
        self.run: dict[str, Any] = {"annotations_version": VERSION, "folder": str(Path.cwd()), "outputs": {}, **run}
        self._stream: IO[bytes] | None = None
        if folder.exists() and not folder.is_dir():
            raise CheckpointError(f"{folder} is a file; expected a directory for the annotations")
        if overwrite:
            _clear(folder)
        else:
            self.run |= _continued(folder, self.run)
        self._done = {self.path_of(line["photo"]) for line in self.lines() if line["error"] is None}

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

    def __enter__(self) -> "Ledger":
        self._rewrite(frozenset())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        assert self._stream is not None
        self._stream.close()

    def name_of(self, photo: str) -> str:
        """Return how ``photo`` is called here: as the user did, or by its whole path from another folder."""
        return name_of(photo, self.run["folder"])

    def path_of(self, name: str) -> str:
        """Return the absolute path of the photo called ``name``."""
        return path_of(name, self.run["folder"])

    def is_done(self, photo: str) -> bool:
        """Whether ``photo`` is annotated."""
        return self.path_of(self.name_of(photo)) in self._done

    def forget_errors(self, photos: Iterable[str]) -> None:
        """Take out the errors about ``photos``, which are tried again."""
        self._rewrite({self.path_of(self.name_of(photo)) for photo in photos})

    def add(
        self, photo: str, size: tuple[int, int] | None, found: Iterable[ClassRegions] = (), error: str | None = None
    ) -> None:
        """Add a line: what was found in ``photo`` of ``size`` (width, height), or the error about it."""
        assert self._stream is not None, "lines are added inside the with block"
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
        line = {"photo": self.name_of(photo), "error": error, "width": width, "height": height, "classes": classes}
        self._stream.write(encode_line(line))
        self._stream.flush()

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield the lines, without a torn last one; raises `CheckpointError` for a whole line that is none of ours."""
        yield from read_lines(self.folder / LINES, _KEYS, "an annotation")

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

    def _rewrite(self, again: Iterable[str]) -> None:
        """Write the lines anew, whole or not at all, without errors about the paths ``again`` and a torn last line."""
        if self._stream is not None:
            self._stream.close()
        dropped = frozenset(again)
        with write_whole(self.folder / LINES) as temporary, temporary.open("wb") as stream:
            for line in self.lines():
                if line["error"] is None or self.path_of(line["photo"]) not in dropped:
                    stream.write(encode_line(line))
        self._stream = (self.folder / LINES).open("ab")


def _continued(folder: Path, run: dict[str, Any]) -> dict[str, Any]:
    """Return what stays as an earlier run in ``folder`` said; raises `CheckpointError` where they do not agree."""
    path = folder / RUN
    if not path.exists():
        if (folder / LINES).exists():
            raise CheckpointError(f"{folder} has {LINES} but no {RUN}; take another folder, or start over: --overwrite")
        return {}
    try:
        earlier: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        before = decisive(earlier, "annotations_version")
        now = decisive(json.loads(json.dumps(run)), "annotations_version")
        stays = {"folder": earlier["folder"], "versions": earlier["versions"], "outputs": dict(earlier["outputs"])}
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged ({error!r}); start over: --overwrite") from error
    changed = changes(before, now)
    if changed:
        raise CheckpointError(
            f"{folder} holds annotations of other settings: {changed}; take another folder, or --overwrite them"
        )
    return stays


def _clear(folder: Path) -> None:
    """Remove what earlier runs have written in ``folder``, and nothing else."""
    try:
        outputs = json.loads((folder / RUN).read_text(encoding="utf-8"))["outputs"]
        written = {folder / output for names in outputs.values() for output in names}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        written = set()
    for path in written:
        if path.is_dir():
            keep_only(path, frozenset())
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
    (folder / LINES).unlink(missing_ok=True)
    (folder / RUN).unlink(missing_ok=True)


def keep_only(folder: Path, names: Iterable[str]) -> None:
    """Remove the files in ``folder`` that are not called one of ``names``: those of an earlier export."""
    kept = frozenset(names)
    for path in folder.iterdir():
        if path.name not in kept and (path.is_symlink() or path.is_file()):
            path.unlink()
