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


def write_noise(path: Path, seed: int = 0, size: tuple[int, int] = (48, 64)) -> Path:
    """Write soft noise of ``size`` (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    small = Image.fromarray(np.random.default_rng(seed).integers(0, 255, (6, 8, 3), np.uint8))
    small.resize(size, Image.Resampling.BICUBIC).save(path)
    return path


def write_folder(root: Path, counts: dict[str, int]) -> None:
    """Write an image folder with so many photos of each class."""
    for label, (name, count) in enumerate(sorted(counts.items())):
        for number in range(count):
            write_photo(root / name / f"{number:02d}.png", label, number)


def write_boxed(root: Path, classes: int, *, train: int = 6, test: int = 2) -> None:
    """Write boxes.csv, masks and so many photos a class: a square of the class's color on noise."""
    rows = ["path,mask,split,class,x0,y0,x1,y1"]
    for label in range(classes):
        for number in range(train + test):
            generator = np.random.default_rng((label, number))
            pixels = generator.integers(0, 90, (30, 40, 3), dtype=np.uint8)
            left, top = generator.integers(2, 18, 2).tolist()
            square = np.s_[top : top + 10, left : left + 20]
            pixels[square] = 40 * label
            pixels[(*square, label % 3)] = 240
            inside = np.zeros((30, 40), dtype=np.uint8)
            inside[square] = 255
            split = "train" if number < train else "test"
            path, mask = f"{split}/{label}/{number}.png", f"masks/{label}{number}.png"
            for file, content in ((path, pixels), (mask, inside)):
                (root / file).parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(content).save(root / file)
            rows.append(f"{path},{mask},{split},{label},{left},{top},{left + 20},{top + 10}")
    (root / "boxes.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def write_squares(root: Path, count: int) -> Path:
    """Write photos of 80 x 60 with a bright square each, its box and class (its number) as WSOL metadata has them."""
    generator = np.random.default_rng(0)
    lines: dict[str, list[str]] = {"class_labels": [], "image_sizes": [], "localization": []}
    (root / "val").mkdir(parents=True)
    for number in range(count):
        pixels = generator.integers(0, 90, (60, 80, 3), dtype=np.uint8)
        left, top = generator.integers(5, 40, 2).tolist()
        pixels[top : top + 20, left : left + 30] = 230
        name = f"val/{number:02}.png"
        Image.fromarray(pixels).save(root / name)
        lines["class_labels"].append(f"{name},{number}")
        lines["image_sizes"].append(f"{name},80,60")
        lines["localization"].append(f"{name},{left},{top},{left + 30},{top + 20}")
    folder = root / "metadata" / "val"
    folder.mkdir(parents=True)
    for name, rows in lines.items():
        (folder / f"{name}.txt").write_text("\n".join(rows), encoding="utf-8")
    return root
