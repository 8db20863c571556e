"""Real handwritten digits at known places on real textures: data whose true boxes nobody needs to label.

Digits come from scikit-learn (UCI Optical Recognition of Handwritten Digits), textures from scikit-image.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = 224
DIGIT = 88
TRAINING_POOL = 1200
"""Digits before this position are training material, those behind it appear in test composites only."""


@dataclass(frozen=True)
class Composite:
    """A picture, its digits, and their boxes (XYXY, half-open, pixels)."""

    image: Image.Image
    digits: tuple[int, ...]
    boxes: tuple[tuple[int, int, int, int], ...]


def write_training_folder(folder: Path, per_digit: int, seed: int = 0) -> None:
    """Write pictures of one digit each into ``folder``/<digit>/: an image folder, as a user would have it."""
    generator = np.random.default_rng(seed)
    images, labels = _digits()
    for digit in range(10):
        home = folder / f"digit {digit}"
        home.mkdir(parents=True, exist_ok=True)
        pool = np.flatnonzero(labels[:TRAINING_POOL] == digit)
        for number, chosen in enumerate(generator.choice(pool, per_digit, replace=len(pool) < per_digit)):
            composite = compose([images[chosen]], [digit], generator)
            composite.image.save(home / f"{number:03d}.png")


def test_composites(count: int, seed: int = 1) -> Iterator[Composite]:
    """Yield pictures with two different digits that do not overlap."""
    generator = np.random.default_rng(seed)
    images, labels = _digits()
    pool = np.arange(TRAINING_POOL, len(labels))
    for _ in range(count):
        first = int(generator.choice(pool))
        second = int(generator.choice(pool[labels[pool] != labels[first]]))
        yield compose([images[first], images[second]], [int(labels[first]), int(labels[second])], generator)


def compose(strokes: list[NDArray[np.float64]], digits: list[int], generator: np.random.Generator) -> Composite:
    """Lay digits, bright, over a random part of a random texture, at random places apart from each other."""
    texture = _textures()[int(generator.integers(len(_textures())))]
    top, left = (int(generator.integers(0, extent - SIZE + 1)) for extent in texture.shape)
    canvas = texture[top : top + SIZE, left : left + SIZE].astype(np.float64) * 0.6
    boxes: list[tuple[int, int, int, int]] = []
    for stroke, (x, y) in zip(strokes, _places(len(strokes), generator), strict=True):
        large = Image.fromarray((stroke / 16 * 255).astype(np.uint8)).resize((DIGIT, DIGIT), Image.Resampling.BICUBIC)
        opacity = np.asarray(large, dtype=np.float64) / 255
        part = canvas[y : y + DIGIT, x : x + DIGIT]
        part += opacity * (255 - part)
        inked = np.argwhere(opacity > 0.25)
        (y0, x0), (y1, x1) = inked.min(0), inked.max(0) + 1
        boxes.append((x + int(x0), y + int(y0), x + int(x1), y + int(y1)))
    image = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8)).convert("RGB")
    return Composite(image, tuple(digits), tuple(boxes))


def _places(count: int, generator: np.random.Generator) -> list[tuple[int, int]]:
    """Return top left corners of squares that do not overlap; all are drawn anew until they fit."""
    while True:
        drawn = [(int(x), int(y)) for x, y in generator.integers(0, SIZE - DIGIT + 1, size=(count, 2))]
        pairs = [(a, b) for index, a in enumerate(drawn) for b in drawn[:index]]
        if all(max(abs(a[0] - b[0]), abs(a[1] - b[1])) >= DIGIT for a, b in pairs):
            return drawn


@cache
def _digits() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    from sklearn.datasets import load_digits

    data: Any = load_digits()
    return data.images, data.target


@cache
def _textures() -> list[NDArray[np.uint8]]:
    from skimage import data

    return [data.brick(), data.grass(), data.gravel()]
