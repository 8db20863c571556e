"""A folder of photos a class."""

from pathlib import Path

from tests.generators.pictures import photo


def write(root: Path, *, splits: tuple[str, ...] = ("train", "val"), classes: tuple[str, ...] = ("cat", "dog")) -> None:
    """Write two photos a class in each split; without splits right below ``root``."""
    for split in splits or ("",):
        for name in classes:
            for number in range(2):
                photo(root / split / name / f"{split}{number}.jpg")
