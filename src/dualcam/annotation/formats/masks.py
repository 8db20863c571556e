"""PNG masks of 0 and 255 at the photo's size, one for each photo and class, and ``masks.csv`` that lists them.

A photo or class without a box has a row without a mask.
"""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from dualcam.annotation import Annotation, ClassRegions, rle
from dualcam.annotation.formats import Export, Stems
from dualcam.annotation.ledger import keep_only
from dualcam.files import write_whole

NAME = "masks"
FILE, FOLDER = "masks.csv", "masks"
OUTPUTS = (FILE, FOLDER)
HEADER = ("path", "class", "name", "mask", "score", "evidence")


def write(export: Export) -> Path:
    """Write ``masks/STEM-CLASS.png`` and ``masks.csv``; evidence is that of all regions of the mask."""
    folder, stems, written = export.folder / FOLDER, Stems(), set()
    folder.mkdir(parents=True, exist_ok=True)
    with (
        write_whole(export.folder / FILE) as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream,
    ):
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(HEADER)
        for item in export.annotations:
            stem = stems.stem_of(item.path)
            for found in item.classes:
                label = (item.photo, found.index, export.names[found.index])
                if not found.regions:
                    rows.writerow((*label, "", found.score, ""))
                    continue
                name = f"{stem}-{found.index}.png"
                with write_whole(folder / name) as part:
                    _draw(item, found).save(part, format="PNG")
                written.add(name)
                evidence = sum(region.evidence for region in found.regions)
                rows.writerow((*label, f"{FOLDER}/{name}", found.score, evidence))
    keep_only(folder, written)
    return export.folder / FILE


def _draw(item: Annotation, found: ClassRegions) -> Image.Image:
    """Return the union of the class's regions, 255 inside."""
    mask = np.zeros((item.height, item.width), dtype=bool)
    for region in found.regions:
        mask |= rle.decode(region.counts, item.height, item.width)
    return Image.fromarray(mask.astype(np.uint8) * np.uint8(255))
