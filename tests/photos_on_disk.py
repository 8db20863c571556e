"""Small photos with something to learn: each class has a color of its own over noise."""

from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (40, 30)


def write_photo(path: Path, label: int, seed: int = 0) -> None:
    """Write a noisy picture whose channel ``label`` (modulo 3) is bright."""
    generator = np.random.default_rng((label, seed))
    pixels = generator.integers(0, 120, size=(SIZE[1], SIZE[0], 3))
    pixels[..., label % 3] += 100
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def write_folder(root: Path, counts: dict[str, int]) -> None:
    """Write an image folder with so many photos of each class."""
    for label, (name, count) in enumerate(sorted(counts.items())):
        for number in range(count):
            write_photo(root / name / f"{number:02d}.png", label, number)
