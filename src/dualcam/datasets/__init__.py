"""Datasets on disk: one file per layout, found by listing this folder.

A layout is a module with ``PRIORITY`` (lower is asked first), ``recognizes(root) -> bool`` and
``read(root, split) -> Dataset``; ``splits(root)`` lists what there is. ``disagreements(root, split)``, which it need
not have, tells `dualcam data check` where its files contradict each other. The first line of its docstring tells
users what it looks like; docs/datasets.md shows each as a tree.
"""

import hashlib
import importlib
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dualcam.data.label_sets import LabelSets
from dualcam.data.truth import Boxes, Masks
from dualcam.errors import DataError

TRAIN_SPLITS = ("train", "train-weaksup", "train-fullsup")
VAL_SPLITS = ("val", "validation", "train-fullsup")
TEST_SPLITS = ("test",)


@dataclass(frozen=True)
class Dataset:
    """Photos with one label each: paths relative to ``root``, labels [N] as indices into ``class_names``.

    ``class_names`` is None where the labels are indices without names, of ``classes`` classes. ``sizes`` [N, 2] are
    (width, height) in source pixels where the layout states them; ``boxes`` and ``masks`` the ground truth, None
    where the layout has none of the kind. ``label_sets`` are all labels of each photo where the layout tells of
    several; ``labels``, ``boxes`` and ``masks`` are then those of the main one (see `dualcam.data.multi_label`).
    """

    root: Path
    split: str
    paths: tuple[str, ...]
    labels: NDArray[np.int64]
    classes: int
    class_names: tuple[str, ...] | None
    sizes: NDArray[np.int64] | None = None
    boxes: Boxes | None = None
    masks: Masks | None = None
    label_sets: LabelSets | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def subset(self, positions: Sequence[int] | NDArray[np.int64]) -> "Dataset":
        """Return the photos at ``positions``, in that order."""
        chosen = np.asarray(positions, dtype=np.int64)
        return replace(
            self,
            paths=tuple(self.paths[int(position)] for position in chosen),
            labels=self.labels[chosen],
            sizes=None if self.sizes is None else self.sizes[chosen],
            boxes=None if self.boxes is None else self.boxes.subset(chosen),
            masks=None if self.masks is None else self.masks.subset(chosen),
            label_sets=None if self.label_sets is None else self.label_sets.subset(chosen),
        )

    def digest(self) -> str:
        """Return a digest of which photos these are: path, size and time of change of each file."""
        digest = hashlib.blake2b(digest_size=16)
        for path in self.paths:
            try:
                status = (self.root / path).stat()
                digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
            except OSError:
                digest.update(f"{path}\0missing\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


@cache
def layouts() -> list[Any]:
    """Return the layout modules in order of priority."""
    modules = [importlib.import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__)]
    return sorted(modules, key=lambda module: int(module.PRIORITY))


def find_layout(path: str | PathLike[str]) -> tuple[Path, Any]:
    """Return the folder and the layout module that recognizes it; raises `DataError` naming the layouts there are."""
    root = Path(path).expanduser()
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; expected one of\n{_known()}")
    for layout in layouts():
        if layout.recognizes(root):
            return root, layout
    raise DataError(f"{root} has no layout that dualcam knows; expected one of\n{_known()}")


def open_dataset(path: str | PathLike[str], split: str | None = None) -> Dataset:
    """Read the dataset in ``path``; ``split`` defaults to "train" where the layout has splits.

    Raises `DataError` where the folder does not exist, no layout recognizes it, or it holds no photos.
    """
    root, layout = find_layout(path)
    dataset: Dataset = layout.read(root, split)
    if not len(dataset):
        raise DataError(f"{root} (split {dataset.split!r}) holds no photos")
    return dataset


def splits(path: str | PathLike[str]) -> list[str]:
    """Return the names of the splits in ``path``; empty where the layout has none."""
    root, layout = find_layout(path)
    names: list[str] = layout.splits(root)
    return names


def evaluation_split(path: str | PathLike[str]) -> str | None:
    """Return the split to report on: test, else val (train-fullsup in WSOL's words); None where there is neither.

    Raises `DataError` where several datasets in ``path`` have such a split.
    """
    present = splits(path)
    for wanted in (TEST_SPLITS, VAL_SPLITS):
        if any(_last(name) in wanted for name in present):
            return choose_split(Path(path), None, present, wanted)
    return None


def selection_split(path: str | PathLike[str], beside: str | None = None) -> str | None:
    """Return the split that may choose thresholds: val (or train-fullsup) where a test split is reported on.

    ``beside``: any split of the dataset that is meant, where ``path`` holds several.
    """
    present = splits(path) if beside is None else splits_beside(path, beside)
    if not any(_last(name) in TEST_SPLITS for name in present):
        return None
    home = choose_split(Path(path), None, present, TEST_SPLITS).rpartition("/")[0]
    found = [name for name in present if name.rpartition("/")[0] == home and _last(name) in VAL_SPLITS]
    return min(found, key=lambda name: VAL_SPLITS.index(_last(name)), default=None)


def splits_beside(path: str | PathLike[str], split: str) -> list[str]:
    """Return the splits in ``path`` of the dataset that ``split`` is of: "CUB/train" and "CUB/val" of "CUB/test"."""
    home = split.rpartition("/")[0]
    return [name for name in splits(path) if name.rpartition("/")[0] == home]


def choose_split(root: Path, split: str | None, present: Sequence[str], wanted: Sequence[str] = TRAIN_SPLITS) -> str:
    """Return the one of ``present`` that ``split`` names, with or without the dataset before it ("CUB/test").

    None takes the first of ``wanted`` that there is. Raises `DataError` naming what there is.
    """
    for want in (split,) if split is not None else wanted:
        hits = [name for name in present if want in (name, _last(name))]
        if len(hits) == 1:
            return hits[0]
        if hits:
            raise DataError(f"{root} has {want!r} of several datasets: {', '.join(hits)}; name one (split=, --split)")
    asked = f"split {split!r}" if split is not None else f"{wanted[0]} split"
    there = f"{', '.join(present)} (choose with split=, --split)" if present else "none: leave split out"
    raise DataError(f"{root} has no {asked}; it has {there}")


def hold_out(dataset: Dataset, share: float, seed: int) -> tuple[Dataset, Dataset]:
    """Return (rest, held out): ``share`` of each class's photos by ``seed``, at least one of those with two or more."""
    generator = np.random.default_rng(seed)
    held: list[int] = []
    for label in np.unique(dataset.labels):
        members = generator.permutation(np.flatnonzero(dataset.labels == label))
        if len(members) > 1:
            held += members[: max(1, round(share * len(members)))].tolist()
    held.sort()
    rest = np.setdiff1d(np.arange(len(dataset)), held)
    return dataset.subset(rest), dataset.subset(held)


def _last(split: str) -> str:
    return split.rpartition("/")[2]


def _known() -> str:
    lines = [f"  {layout.__name__.rpartition('.')[2]}: {layout.__doc__.splitlines()[0]}" for layout in layouts()]
    return "\n".join([*lines, "(docs/datasets.md shows each as a tree)"])
