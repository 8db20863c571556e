"""COCO's JSON: images, categories and annotations with boxes, run lengths and scores.

Category ids are class indices + 1; ``bbox`` is x, y, width, height; ``area`` counts the mask's pixels.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from dualcam.annotation import rle
from dualcam.annotation.formats import Export
from dualcam.files import write_whole

NAME = "coco"
FILE = "annotations.json"
OUTPUTS = (FILE,)
_ABOUT = "Pseudo-boxes from image labels, made by dualcam annotate; not drawn by people."


def write(export: Export) -> Path:
    """Write ``annotations.json``, record by record."""
    categories = ({"id": index + 1, "name": name, "supercategory": ""} for index, name in enumerate(export.names))
    with write_whole(export.folder / FILE) as temporary, temporary.open("wb") as stream:
        stream.write(b'{"info": ' + _encoded({"description": _ABOUT}) + b', "licenses": []')
        _write_list(stream, "categories", categories)
        _write_list(stream, "images", _images(export))
        _write_list(stream, "annotations", _annotations(export))
        stream.write(b"}\n")
    return export.folder / FILE


def _images(export: Export) -> Iterator[dict[str, Any]]:
    for number, item in enumerate(export.annotations, 1):
        yield {"id": number, "file_name": item.photo, "width": item.width, "height": item.height}


def _annotations(export: Export) -> Iterator[dict[str, Any]]:
    number = 0
    for image, item in enumerate(export.annotations, 1):
        for found, region in item.boxes:
            number += 1
            x0, y0, x1, y1 = region.box
            yield {
                "id": number,
                "image_id": image,
                "category_id": found.index + 1,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": rle.area(region.counts),
                "segmentation": {"size": [item.height, item.width], "counts": list(region.counts)},
                "iscrowd": 0,
                "score": found.score,
                "evidence": region.evidence,
            }


def _write_list(stream: IO[bytes], key: str, records: Iterable[dict[str, Any]]) -> None:
    stream.write(f', "{key}": ['.encode())
    for place, record in enumerate(records):
        stream.write((b",\n" if place else b"\n") + _encoded(record))
    stream.write(b"]")


def _encoded(record: dict[str, Any]) -> bytes:
    return json.dumps(record, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace")
