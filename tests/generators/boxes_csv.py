"""Photos in a folder for each split, and boxes.csv."""

from collections.abc import Sequence
from pathlib import Path

from tests.generators.pictures import lines, mask, photo

COLUMNS = ("path", "mask", "split", "class", "name", "x0", "y0", "x1", "y1")


def write(
    root: Path,
    *,
    columns: Sequence[str] = COLUMNS,
    ending: str = "\n",
    last: bool = True,
    bom: bool = False,
    several: bool = False,
    unboxed: bool = False,
) -> None:
    """Write two species, two photos each in train, one in test; ``columns`` in any order, without some of them."""
    rows = []
    for label, name in enumerate(("Monarch", "Zebra, Longwing")):
        for number, split in enumerate(("train", "train", "test")):
            stem = f"00{label}{number}"
            path = f"{split}/0{label}_{name}/{stem}.jpg".replace(", ", "_")
            photo(root / path)
            mask(root / f"masks/{stem}.png")
            boxes = [("5", "5", "20", "20")] + ([("0", "0", "40", "30")] if several else [])
            if unboxed and split == "train" and not number:
                boxes = [("", "", "", "")]
            for box in boxes:
                fields = dict(
                    zip(COLUMNS, (path, f"masks/{stem}.png", split, str(label), f'"{name}"', *box), strict=True)
                )
                rows.append(",".join(fields[column] for column in columns))
    lines(root / "boxes.csv", [",".join(columns), *rows], ending, last, bom)
