"""Which photos a study judges, and which it trains on: never the same."""

from collections.abc import Iterator
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dualcam.datasets import TRAIN_SPLITS, Dataset, open_dataset, splits
from dualcam.errors import DataError
from dualcam.evaluation.photos import Photos, choose_photos, without_truth
from dualcam.model import DualBranch


def choose_judged(
    model: DualBranch,
    data: str | PathLike[str],
    *,
    split: str | None,
    select: str,
    seed: int,
    multi_label: bool,
    truth_needed: bool,
) -> Photos:
    """Return the photos that are judged, and those that choose thresholds; fidelity alone needs no truth."""
    photos = choose_photos(
        model, data, split=split, select=select, seed=seed, multi_label=multi_label, truth_needed=truth_needed
    )
    return without_truth(photos) if photos.has_truth else photos


def open_training(data: str | PathLike[str], train: Path | None, train_split: str | None) -> Dataset:
    """Return the photos to train on; raises `DataError` that offers ``train`` where the data has none."""
    if train is not None:
        return open_dataset(train, train_split)
    present = splits(data)
    if present and train_split is None and not any(s.rpartition("/")[2] in TRAIN_SPLITS for s in present):
        raise DataError(
            f"{data} has no train split, only {', '.join(present)}; name photos to train the branches on (train=, "
            "--train DATA2)"
        )
    return open_dataset(data, train_split)


def leave_out(dataset: Dataset, photos: Photos) -> Dataset:
    """Return ``dataset`` without ``photos``; raises `DataError` where fewer than two photos are left."""
    used = {(part.root / path).resolve() for part, path in _paths(photos, np.union1d(photos.choosing, photos.reported))}
    kept = [place for place, path in enumerate(dataset.paths) if (dataset.root / path).resolve() not in used]
    if len(kept) < 2:
        raise DataError(
            f"{dataset.root} (split {dataset.split!r}) has no photos to train on beside those that are judged; name "
            "others (train=, --train DATA2)"
        )
    return dataset.subset(kept)


def _paths(photos: Photos, positions: NDArray[np.int64]) -> Iterator[tuple[Dataset, str]]:
    for part, place in map(photos.locate, positions.tolist()):
        yield part, part.paths[place]
