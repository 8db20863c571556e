"""A folder of photos a class, and masks of the same names."""

from pathlib import Path

from tests.generators.pictures import mask, photo


def write(root: Path, *, splits: tuple[str, ...] = (), nested: bool = True, unmasked: bool = False) -> None:
    """Write two photos in each of two classes; masks in folders as the photos (``nested``) or all in one."""
    for split in splits or ("",):
        for name in ("cat", "dog"):
            for number in range(2):
                stem = f"{number}" if nested else f"{split}{name}{number}"
                photo(root / split / name / f"{stem}.jpg")
                if not (unmasked and name == "cat"):
                    folder = root / "masks" / split / name if nested else root / "masks"
                    mask(folder / f"{stem}.png")
