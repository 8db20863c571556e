"""``boxes.csv``, a row a box, XYXY and half-open: what `dualcam.datasets.boxes_csv` reads, with scores.

A photo without a box has one row, its four edges empty.
"""

import csv
from pathlib import Path

from dualcam.annotation.formats import Export
from dualcam.files import write_whole

NAME = "csv"
FILE = "boxes.csv"
OUTPUTS = (FILE,)
HEADER = ("path", "class", "name", "x0", "y0", "x1", "y1", "score", "evidence")


def write(export: Export) -> Path:
    """Write ``boxes.csv``."""
    with (
        write_whole(export.folder / FILE) as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream,
    ):
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(HEADER)
        for item in export.annotations:
            for found, region in item.boxes:
                label = (item.photo, found.index, export.names[found.index])
                rows.writerow((*label, *region.box, found.score, region.evidence))
            if not item.boxes:
                first = item.classes[0]
                rows.writerow((item.photo, first.index, export.names[first.index], "", "", "", "", first.score, ""))
    return export.folder / FILE
