"""The WSOL metadata layout (Choe et al., CVPR 2020): ``metadata/[DATASET/]<split>/class_labels.txt`` and photos."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dualcam.datasets import Dataset
from dualcam.errors import DataError

PRIORITY = 10
LABELS = "class_labels.txt"
TRAIN_NAMES = ("train", "train-weaksup", "train-fullsup")


def recognizes(root: Path) -> bool:
    """Whether ``metadata`` holds splits."""
    return bool(splits(root))


def splits(root: Path) -> list[str]:
    """Return the splits, named ``<split>`` or ``<DATASET>/<split>``."""
    metadata = root / "metadata"
    files = [*metadata.glob(f"*/{LABELS}"), *metadata.glob(f"*/*/{LABELS}")]
    return sorted(file.parent.relative_to(metadata).as_posix() for file in files)


def read(root: Path, split: str | None) -> Dataset:
    """Read ``class_labels.txt`` of a split; raises `DataError` with file and line number."""
    name = _choose(root, split)
    file = root / "metadata" / name / LABELS
    paths: list[str] = []
    labels: list[int] = []
    for number, line in numbered_lines(file):
        path, comma, label = line.rpartition(",")
        if not comma or not label.strip().isdigit():
            raise DataError(f"{file}, line {number}: expected '<photo>,<class index>', got {line!r}")
        paths.append(path)
        labels.append(int(label))
    classes = max(labels) + 1 if labels else 0
    return Dataset(root, name, tuple(paths), np.asarray(labels, dtype=np.int64), classes, None)


def numbered_lines(file: Path) -> Iterator[tuple[int, str]]:
    """Yield (line number, text) of the lines that are not empty; line ends of any kind, the last may lack its own."""
    with file.open(encoding="utf-8", newline=None) as stream:
        for number, line in enumerate(stream, start=1):
            text = line.strip()
            if text:
                yield number, text


def _choose(root: Path, split: str | None) -> str:
    present = splits(root)
    wanted = (split,) if split is not None else TRAIN_NAMES
    for want in wanted:
        hits = [name for name in present if name == want or name.endswith(f"/{want}")]
        if len(hits) == 1:
            return hits[0]
        if hits:
            raise DataError(f"{root} has {want!r} of several datasets: {', '.join(hits)}; name one (split=, --split)")
    asked = f"split {split!r}" if split is not None else "train split"
    raise DataError(f"{root}/metadata has no {asked}; it has {', '.join(present)} (choose with split=, --split)")
