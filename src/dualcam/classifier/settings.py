"""Every choice of a classifier's training, in one frozen record."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from dualcam.errors import ChoiceError, check_choice

Augment = Literal["none", "crop", "resized-crop"]
Part = Literal["all", "head"]


@dataclass(frozen=True, kw_only=True)
class ClassifierSettings:
    """How the classifier is trained; see the fields."""

    train: Part = "all"
    """all: the whole network. head: its last layer only; the rest is in eval mode and stays as it is, bit for bit."""

    epochs: int = 10
    """Passes over the photos."""

    batch_size: int = 32
    """Photos a step, all processes together, so that no result depends on their number."""

    lr: float = 1e-3
    """Learning rate of the layers that have pretrained weights."""

    head_lr_factor: float = 10.0
    """Times as high is the rate of the layers that have none: the new last layer, and what wsol: networks add."""

    momentum: float = 0.9
    """Nesterov momentum."""

    weight_decay: float = 5e-4
    """Weight of half the squared length of all parameters."""

    lr_step: int = 3
    """The learning rate falls to a tenth every so many epochs; 0 keeps it."""

    augment: Augment = "crop"
    """crop: 7/8 of width and height (224 of 256 pixels), flipped or not. resized-crop: any part down to min_scale.
    none: the whole photo."""

    min_scale: float = 0.25
    """Least share of the photo's area in a resized crop."""

    multi_label: bool = False
    """All labels of a photo count, each of k with 1/k, where the data has several; else its main one."""

    val_share: float = 0.1
    """Share of each class held out for validation where the data has no val split; 0 trains on all."""

    seed: int = 0
    """Seed of the new layers, hold-out, order, crops and dropout."""

    def __post_init__(self) -> None:
        check_choice("train", self.train, ("all", "head"))
        check_choice("augment", self.augment, ("none", "crop", "resized-crop"))
        for name, least in (("epochs", 0), ("batch_size", 1), ("lr_step", 0), ("weight_decay", 0), ("momentum", 0)):
            if getattr(self, name) < least:
                raise ChoiceError(f"{name} must be at least {least}; got {getattr(self, name)}")
        if not self.lr > 0 or not self.head_lr_factor > 0:
            raise ChoiceError(f"lr and head_lr_factor must be above 0; got {self.lr} and {self.head_lr_factor}")
        if not 0 <= self.val_share < 1 or not 0 < self.min_scale <= 1:
            raise ChoiceError("val_share must lie in [0, 1), min_scale in (0, 1]")

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)
