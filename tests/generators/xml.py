"""Annotation files in Pascal VOC's XML."""

from collections.abc import Sequence
from pathlib import Path

from tests.generators.pictures import HEIGHT, WIDTH, Box


def annotation(
    path: Path, objects: Sequence[tuple[str, Box]], size: tuple[int, int] | None = (WIDTH, HEIGHT), ending: str = "\n"
) -> None:
    """Write a file; boxes are pixels counted from 1, the last included."""
    rows = ["<annotation>", f"\t<filename>{path.stem}</filename>"]
    if size:
        rows += ["\t<size>", f"\t\t<width>{size[0]}</width><height>{size[1]}</height><depth>3</depth>", "\t</size>"]
    for name, (x0, y0, x1, y1) in objects:
        rows += ["\t<object>", f"\t\t<name>{name}</name>", "\t\t<difficult>0</difficult>", "\t\t<bndbox>"]
        rows += [f"\t\t\t<xmin>{x0}</xmin><ymin>{y0}</ymin>", f"\t\t\t<xmax>{x1}</xmax><ymax>{y1}</ymax>"]
        rows += ["\t\t</bndbox>", "\t</object>"]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((ending.join([*rows, "</annotation>"]) + ending).encode())
