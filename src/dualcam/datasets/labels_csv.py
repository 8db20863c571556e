"""Photos and ``labels.csv`` with a header: path, labels (several with ``;`` between them) and perhaps split.

Columns are found by name, in any order, and others are ignored. Labels are names of classes; the first of a photo is
its main one. Photos without any label are left out.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dualcam.data.csv_rows import photo_rows, row_error
from dualcam.data.label_sets import LabelSets
from dualcam.datasets import Dataset, choose_split

PRIORITY = 41
FILE = "labels.csv"
BETWEEN = ";"
_SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class _Row:
    path: str
    split: str
    labels: tuple[str, ...]


def recognizes(root: Path) -> bool:
    """Whether ``labels.csv`` is there."""
    return (root / FILE).is_file()


def splits(root: Path) -> list[str]:
    """Return the splits in the order of train, val, test, others; none where there is no such column."""
    return _splits(list(_rows(root / FILE)))


def read(root: Path, split: str | None) -> Dataset:
    """Read a split; classes are the sorted names of all splits. Raises `DataError` with file and line number."""
    rows = list(_rows(root / FILE))
    present = _splits(rows)
    name = choose_split(root, split, present) if present or split is not None else ""
    classes = sorted({label for row in rows for label in row.labels})
    places = {label: place for place, label in enumerate(classes)}
    chosen = [row for row in rows if row.split == name and row.labels]
    sets = LabelSets.of([places[label] for label in row.labels] for row in chosen)
    return Dataset(
        root,
        name or "all",
        tuple(row.path for row in chosen),
        sets.flat[sets.starts[:-1]],
        len(classes),
        tuple(classes),
        label_sets=sets,
    )


def _splits(rows: list[_Row]) -> list[str]:
    found = {row.split for row in rows} - {""}
    return [name for name in _SPLITS if name in found] + sorted(found - set(_SPLITS))


def _rows(file: Path) -> Iterator[_Row]:
    seen: dict[tuple[str, str], int] = {}
    for line, row in photo_rows(file, ["labels"]):
        key = (row["path"], row.get("split", ""))
        if key in seen:
            raise row_error(file, line, f"a photo that line {seen[key]} does not name", row["path"])
        seen[key] = line
        labels = dict.fromkeys(label.strip() for label in row["labels"].split(BETWEEN) if label.strip())
        yield _Row(*key, tuple(labels))
