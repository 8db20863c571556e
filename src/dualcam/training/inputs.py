"""Which photos a run trains on, and which it validates on."""

from dataclasses import dataclass
from os import PathLike
from typing import Protocol

from dualcam.data.multi_label import check_single, with_all_labels
from dualcam.datasets import Dataset, hold_out, open_dataset, splits_beside

VAL_SPLITS = ("val", "train-fullsup")


@dataclass(frozen=True)
class Inputs:
    """Training and validation photos; ``val`` is None without validation. ``told`` is what to know of their labels."""

    train: Dataset
    val: Dataset | None
    told: str | None = None


class Choice(Protocol):
    """What the settings of a run say about its photos."""

    @property
    def multi_label(self) -> bool:
        """Whether all labels of a photo count."""

    @property
    def val_share(self) -> float:
        """Share held out for validation."""

    @property
    def seed(self) -> int:
        """Seed of the hold-out."""


def find_inputs(data: str | PathLike[str] | Dataset, split: str | None, settings: Choice) -> Inputs:
    """Return training photos, and validation photos: the data's own val split, or a share held out of each class.

    Where several labels of a photo are to count (``settings.multi_label``), the datasets have their ``label_sets``.
    Raises `DataError` where one of several labels is to count, and nothing says which.
    """
    if isinstance(data, Dataset):
        dataset, own_val = data, None
    else:
        dataset = open_dataset(data, split)
        beside = splits_beside(data, dataset.split)  # another dataset's val split is not this one's
        names = [name for name in beside if name.rpartition("/")[2] in VAL_SPLITS and name != dataset.split]
        own_val = open_dataset(data, names[0]) if names and settings.val_share else None
    if settings.multi_label:
        dataset = with_all_labels(dataset)
        own_val = None if own_val is None else with_all_labels(own_val)
    told = _told_of_labels(dataset, multi_label=settings.multi_label)
    if own_val is not None and own_val.class_names == dataset.class_names:
        return Inputs(dataset, own_val, told)
    if not settings.val_share:
        return Inputs(dataset, None, told)
    train, val = hold_out(dataset, settings.val_share, settings.seed)
    return Inputs(train, val, told) if len(val) else Inputs(dataset, None, told)


def _told_of_labels(dataset: Dataset, *, multi_label: bool) -> str | None:
    """Return what is to be known about photos with several labels; raises `DataError` where nothing can choose one."""
    if not multi_label:
        return check_single(dataset)
    sets = dataset.label_sets
    assert sets is not None
    return f"{len(sets.flat)} labels of {len(sets)} photos, {len(sets.flat) / max(1, len(sets)):.2f} each"
