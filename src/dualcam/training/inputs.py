"""Which photos a run trains on, and which it validates on."""

from dataclasses import dataclass
from os import PathLike

from dualcam.datasets import Dataset, hold_out, open_dataset, splits
from dualcam.training.settings import TrainingSettings

VAL_SPLITS = ("val", "train-fullsup")


@dataclass(frozen=True)
class Inputs:
    """Training and validation photos; ``val`` is None without validation."""

    train: Dataset
    val: Dataset | None


def find_inputs(data: str | PathLike[str] | Dataset, split: str | None, settings: TrainingSettings) -> Inputs:
    """Return training photos, and validation photos: the data's own val split, or a share held out of each class."""
    if isinstance(data, Dataset):
        dataset, own_val = data, None
    else:
        dataset = open_dataset(data, split)
        names = [name for name in splits(data) if name.rpartition("/")[2] in VAL_SPLITS and name != dataset.split]
        own_val = open_dataset(data, names[0]) if names and settings.val_share else None
    if own_val is not None and own_val.class_names == dataset.class_names:
        return Inputs(dataset, own_val)
    if not settings.val_share:
        return Inputs(dataset, None)
    train, val = hold_out(dataset, settings.val_share, settings.seed)
    return Inputs(train, val) if len(val) else Inputs(dataset, None)
