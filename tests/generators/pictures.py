"""Small pictures of noise, and masks, for the generators of datasets."""

from collections.abc import Iterable
from pathlib import Path
from zlib import crc32

import numpy as np
from PIL import Image

WIDTH, HEIGHT = SIZE = (40, 30)
Box = tuple[int, int, int, int]


def photo(path: Path, size: tuple[int, int] = SIZE, seed: str | None = None) -> None:
    """Write noise that is another one for each path (or seed)."""
    generator = np.random.default_rng(crc32((seed or str(path)).encode()))
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = generator.integers(0, 255, size=(size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, format="PNG" if path.suffix == ".png" else "JPEG")


def mask(path: Path, box: Box = (5, 5, 20, 20), size: tuple[int, int] = SIZE, value: int = 255) -> None:
    """Write a PNG that is ``value`` inside ``box`` and 0 outside."""
    pixels = np.zeros((size[1], size[0]), dtype=np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def lines(path: Path, rows: Iterable[str], ending: str = "\n", last: bool = True, bom: bool = False) -> None:
    """Write lines with line ends of a kind, perhaps none after the last, perhaps after a byte order mark."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = list(rows)
    text = ending.join(rows) + (ending if last and rows else "")
    path.write_bytes((b"\xef\xbb\xbf" if bom else b"") + text.encode())
