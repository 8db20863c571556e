"""Annotation files in Pascal VOC's XML, which ImageNet uses too."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from dualcam.errors import DataError

Corners = tuple[float, float, float, float]
_BOX = "a <bndbox> of numbers with 0 <= xmin <= xmax and 0 <= ymin <= ymax"


@dataclass(frozen=True)
class Annotation:
    """What one file states: (width, height), or None where it has no such positive numbers; (class, box) of objects.

    Boxes are XYXY, half-open, in source pixels.
    """

    size: tuple[int, int] | None
    objects: tuple[tuple[str, Corners], ...]


def read_annotation(file: Path) -> Annotation:
    """Read a file; raises `DataError` naming file, line and what is wrong there.

    Corners in the files are pixels counted from 1, the last included (Everingham et al., VOC development kit), so
    xmin - 1 .. xmax are the half-open edges. ImageNet has some xmin of 0; they stay 0.
    """
    try:
        root = ElementTree.parse(file).getroot()
    except ElementTree.ParseError as error:
        line = error.position[0]
        raise DataError(f"{file}, line {line}: expected XML, got a file that ends or breaks here: {error}") from error
    except OSError as error:
        raise DataError(f"{file} can not be read: {error.strerror or error}; restore the file") from error
    objects = []
    for place, item in enumerate(root.findall("object")):
        name = (item.findtext("name") or "").strip()
        if not name:
            raise _object_error(file, place, "an <object> with a <name>")
        try:
            x0, y0, x1, y1 = (float(item.findtext(f"bndbox/{edge}", "")) for edge in ("xmin", "ymin", "xmax", "ymax"))
        except ValueError:
            raise _object_error(file, place, _BOX) from None
        if not (0 <= x0 <= x1 < float("inf") and 0 <= y0 <= y1 < float("inf")):
            raise _object_error(file, place, _BOX)
        objects.append((name, (max(x0 - 1, 0.0), max(y0 - 1, 0.0), x1, y1)))
    return Annotation(_size(root), tuple(objects))


def boxes_by_class(objects: Iterable[tuple[str, Corners]]) -> dict[str, list[Corners]]:
    """Return each class's boxes, by falling total area; of equal ones the first by name comes first."""
    boxes: dict[str, list[Corners]] = {}
    for name, box in objects:
        boxes.setdefault(name, []).append(box)
    areas = {name: sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in boxes[name]) for name in boxes}
    return {name: boxes[name] for name in sorted(boxes, key=lambda name: (-areas[name], name))}


def _size(root: ElementTree.Element) -> tuple[int, int] | None:
    texts = [root.findtext(f"size/{side}", "").strip() for side in ("width", "height")]
    width, height = (int(text) if text.isascii() and text.isdigit() else 0 for text in texts)
    return (width, height) if width and height else None


def _object_error(file: Path, place: int, expected: str) -> DataError:
    """Return the error for object number ``place`` (from 0): ElementTree forgets lines, so its opening is counted."""
    text = file.read_text(encoding="utf-8", errors="replace")
    opening = list(re.finditer(r"<object[\s>]", text))[place].start()
    number = text.count("\n", 0, opening) + 1
    return DataError(
        f"{file}, line {number}: expected {expected}, got other in object {place + 1}, which begins here; mend the file"
    )
