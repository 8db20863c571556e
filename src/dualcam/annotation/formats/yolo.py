"""YOLO's text files: ``labels/STEM.txt`` with class, centre, width and height as shares of the photo.

Trainers look for labels beside ``images/``, so that folder holds a link to each photo, called as its labels are.
``scores.csv`` has the scores, which trainers reject in the labels; ``data.yaml`` the names of the classes.
"""

import csv
import os
from pathlib import Path

import yaml

from dualcam.annotation import Annotation
from dualcam.annotation.formats import Export, Stems
from dualcam.annotation.ledger import keep_only
from dualcam.errors import DataError
from dualcam.files import write_whole

NAME = "yolo"
LABELS, IMAGES, LIST, SCORES, DATA = "labels", "images", "train.txt", "scores.csv", "data.yaml"
OUTPUTS = (LABELS, IMAGES, LIST, SCORES, DATA)
HEADER = ("path", "label", "line", "class", "name", "score", "evidence")
_VAL = "# Trainers ask for val. Pseudo-boxes judge nothing: name photos with true boxes here.\nval: train.txt\n"


def write(export: Export) -> Path:
    """Write labels, links, ``train.txt``, ``scores.csv`` and ``data.yaml``."""
    labels, images, stems = export.folder / LABELS, export.folder / IMAGES, Stems()
    written: set[str] = set()
    linked: set[str] = set()
    for folder in (labels, images):
        folder.mkdir(parents=True, exist_ok=True)
    with (
        write_whole(export.folder / LIST) as list_part,
        write_whole(export.folder / SCORES) as scores_part,
        list_part.open("w", encoding="utf-8", errors="surrogateescape", newline="") as listing,
        scores_part.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream,
    ):
        scores = csv.writer(stream, lineterminator="\n")
        scores.writerow(HEADER)
        for item in export.annotations:
            stem = stems.stem_of(item.path)
            name = f"{stem}.txt"
            with write_whole(labels / name) as temporary:
                temporary.write_text(_lines(item, scores=export.settings.yolo_scores), encoding="utf-8")
            written.add(name)
            for line, (found, region) in enumerate(item.boxes, 1):
                label = (item.photo, f"{LABELS}/{name}", line, found.index, export.names[found.index])
                scores.writerow((*label, found.score, region.evidence))
            if export.settings.yolo_images == "link":
                link = f"{stem}{Path(item.path).suffix}"
                _link(Path(item.path), images / link)
                linked.add(link)
                listing.write(f"./{IMAGES}/{link}\n")
            else:
                listing.write(f"{item.path}\n")
    keep_only(labels, written)
    keep_only(images, linked)
    with write_whole(export.folder / DATA) as temporary:
        names = yaml.safe_dump({"names": dict(enumerate(export.names))}, allow_unicode=True, sort_keys=False)
        temporary.write_text(f"train: {LIST}\n{_VAL}{names}", encoding="utf-8")
    return export.folder / DATA


def _lines(item: Annotation, *, scores: bool) -> str:
    """Return the lines of a photo; eight digits bring back the pixels of any photo."""
    text = ""
    for found, (x0, y0, x1, y1) in ((found, region.box) for found, region in item.boxes):
        centre = ((x0 + x1) / 2 / item.width, (y0 + y1) / 2 / item.height)
        extent = ((x1 - x0) / item.width, (y1 - y0) / item.height)
        text += " ".join([str(found.index), *(f"{value:.8f}" for value in (*centre, *extent))])
        text += f" {found.score:.6f}\n" if scores else "\n"
    return text


def _link(photo: Path, link: Path) -> None:
    """Make ``link`` lead to ``photo``; raises `DataError` where the file system has no links."""
    if link.is_symlink() and os.readlink(link) == str(photo):  # noqa: PTH115  - the dot of "./a" counts
        return
    try:
        link.unlink(missing_ok=True)
        link.symlink_to(photo)
    except OSError as error:
        raise DataError(
            f"{link} can not be made a link to {photo}: {error.strerror or error}; take a folder on a file system with "
            "links (-o), or list the photos: --yolo-images list"
        ) from error
