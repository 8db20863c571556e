"""What is wrong with one photo of a dataset, and with its masks."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dualcam.data.photos import open_photo
from dualcam.datasets import Dataset
from dualcam.errors import PhotoError


@dataclass(frozen=True)
class Finding:
    """A kind of problem, in words what it is, and whether it is a note only."""

    kind: str
    detail: str
    note: bool = False


@dataclass(frozen=True)
class Look:
    """What a look at a photo gave: findings, and 64 bits of a digest of its bytes (0 where they were not read)."""

    findings: tuple[Finding, ...]
    digest: int


def look(dataset: Dataset, position: int, max_megapixels: float) -> Look:
    """Read a photo and its masks whole. Boxes are held against the photo's size where the dataset states none."""
    file = dataset.root / dataset.paths[position]
    if not file.is_file():
        return Look((Finding("missing file", "the file is not there"), *missing_masks(dataset, position)), 0)
    findings = []
    digest, size = 0, None
    try:
        digest = _digest(file)
        size = open_photo(file, max_megapixels=max_megapixels).size
    except (OSError, PhotoError) as error:
        findings.append(Finding("unreadable photo", str(error)))
    if size is not None and dataset.sizes is not None and tuple(dataset.sizes[position].tolist()) != size:
        width, height = dataset.sizes[position].tolist()
        findings.append(
            Finding("size differs", f"stated {width} x {height}, the upright photo has {size[0]} x {size[1]}")
        )
    if size is not None and dataset.sizes is None and dataset.boxes is not None:
        findings += box_findings(dataset.boxes[position], size)
    findings += _mask_findings(dataset, position, size)
    return Look(tuple(findings), digest)


def glance(dataset: Dataset, position: int) -> Look:
    """Look only whether the photo and its masks are there."""
    missing = () if (dataset.root / dataset.paths[position]).is_file() else ("the file is not there",)
    found = (*(Finding("missing file", text) for text in missing), *missing_masks(dataset, position))
    return Look(found, 0)


def box_findings(boxes: NDArray[np.float64], size: tuple[int, int] | None) -> Iterator[Finding]:
    """Yield boxes [G, 4] without area, and those that leave ``size`` (width, height): x1 == width does not."""
    for x0, y0, x1, y1 in boxes.tolist():
        text = f"{x0:g}, {y0:g}, {x1:g}, {y1:g}"
        if x1 <= x0 or y1 <= y0:
            yield Finding("empty box", text)
        if x0 < 0 or y0 < 0 or (size is not None and (x1 > size[0] or y1 > size[1])):
            yield Finding("box out of bounds", text + (f" of {size[0]} x {size[1]}" if size else ""))


def missing_masks(dataset: Dataset, position: int) -> Iterator[Finding]:
    """Yield the photo's masks that are not there."""
    for mask, _ in _masks(dataset, position):
        if not (dataset.root / mask).is_file():
            yield Finding("missing mask", mask)


def _masks(dataset: Dataset, position: int) -> Iterator[tuple[str, bool]]:
    """Yield (mask, whether it may be empty)."""
    if dataset.masks is not None:
        yield from ((mask, False) for mask in dataset.masks.instances[position])
        yield from ((mask, True) for mask in dataset.masks.ignored[position])


def _mask_findings(dataset: Dataset, position: int, size: tuple[int, int] | None) -> Iterator[Finding]:
    for mask, may_be_empty in _masks(dataset, position):
        try:
            with Image.open(dataset.root / mask) as image:
                image.load()
                filled, extent = image.getbbox(alpha_only=False) is not None, image.size
        except FileNotFoundError:
            yield Finding("missing mask", mask)
            continue
        except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
            yield Finding("unreadable mask", f"{mask}: {error}")
            continue
        if not filled and not may_be_empty:
            yield Finding("empty mask", mask)
        if size is not None and extent != size:
            same_shape = abs(extent[0] * size[1] / size[0] - extent[1]) <= 1 + extent[0] / size[0]
            words = "scale" if same_shape else "size"
            text = f"{mask}: {extent[0]} x {extent[1]}, the photo has {size[0]} x {size[1]}"
            yield Finding(f"mask of other {words}", text, note=same_shape)


def _digest(file: Path) -> int:
    digest = hashlib.blake2b(digest_size=8)
    with file.open("rb") as stream:
        while part := stream.read(1 << 20):
            digest.update(part)
    return max(1, int.from_bytes(digest.digest(), "little"))
