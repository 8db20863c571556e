"""Photos and labels.csv."""

from pathlib import Path

from tests.generators.pictures import lines, photo

ROWS = (
    ("train", "a", "cat; dog"),
    ("train", "b", "dog"),
    ("train", "c", "emu;cat;dog"),
    ("train", "d", ""),
    ("test", "e", "emu;cat"),
    ("test", "f", "dog"),
)


def write(root: Path, *, ending: str = "\n", last: bool = True, bom: bool = False) -> None:
    """Write photos of none to three animals in two splits."""
    for _, stem, _ in ROWS:
        photo(root / f"photos/{stem}.jpg", seed=stem)
    rows = [f"{split},photos/{stem}.jpg,{labels},x" for split, stem, labels in ROWS]
    lines(root / "labels.csv", ["split,path,labels,source", *rows], ending, last, bom)
