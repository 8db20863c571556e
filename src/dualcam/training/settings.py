"""Every choice of a training run, in one frozen record."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from dualcam.errors import ChoiceError, check_choice
from dualcam.types import Balance, Precision

Augment = Literal["none", "crop", "resized-crop"]
Start = Literal["clone", "centered", "random"]
Solver = Literal["sgd", "lbfgs"]
Labels = Literal["hard", "soft"]
Anchor = Literal["zero", "start"]
FrozenMode = Literal["eval", "train"]


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How the sigmoid branch is trained; see the fields."""

    solver: Solver = "sgd"
    """sgd: Nesterov, epochs, stepped learning rate. lbfgs: to the optimum of the convex problem (linear heads)."""

    start: Start = "clone"
    """clone of the softmax head; centered: clone minus its mean row; random: N(0, 0.01)."""

    balance: Balance = "uniform"
    """Weight of positives: uniform C - 1, of C classes with photos; frequency (N - N_k) / N_k, for unbalanced data;
    none 1."""

    labels: Labels = "hard"
    """hard: the photos' labels. soft: the classifier's own probabilities of each view."""

    multi_label: bool = False
    """All labels of a photo count, where the data has several; else its main one."""

    temperature: float = 1.0
    """Softens soft labels: probabilities of the classifier's logits divided by it."""

    epochs: int | None = None
    """Passes over all views (sgd, default 10), or rounds of 25 iterations at most (lbfgs, 40; stops at its optimum)."""

    batch_size: int = 32
    """Rows a step."""

    lr: float | None = None
    """Learning rate; by default C / (mean squared feature norm + 1) for linear heads (a stable step; C classes have
    photos), else 0.001."""

    momentum: float = 0.9
    """Nesterov momentum."""

    weight_decay: float = 5e-4
    """Weight of half the squared distance of the weights to the anchor; biases are free."""

    anchor: Anchor = "zero"
    """What weight decay pulls to: zero, or the start."""

    lr_step: int = 3
    """The learning rate falls to a tenth every so many epochs; 0 keeps it."""

    views: int = 4
    """Views of each photo that an epoch goes through: the whole photo, and augmented ones. One view is the whole photo,
    or without a cache a crop that each epoch draws anew."""

    augment: Augment = "crop"
    """crop: 7/8 of width and height, flipped or not. resized-crop: any part down to min_scale. none: one view."""

    min_scale: float = 0.25
    """Least share of the photo's area in a resized crop."""

    val_share: float = 0.1
    """Share of each class held out for validation where the data has no val split; 0 trains on all."""

    fit_head: Literal["linear"] | None = None
    """linear: fit a pooled linear softmax head for the data's classes first."""

    head_decay: float = 1e-3
    """Weight decay of the fitted softmax head."""

    frozen_mode: FrozenMode = "eval"
    """eval: running batch statistics, no dropout. train: as the published code, statistics of each batch, and dropout
    before the branch's first layer; in a copy, so that the classifier stays as it is (needs --no-cache)."""

    precision: Precision = "32-true"
    """32-true, or mixed precision for the frozen network's passes (needs --no-cache)."""

    seed: int = 0
    """Seed of views, hold-out, order, dropout and random start."""

    def __post_init__(self) -> None:
        check_choice("solver", self.solver, ("sgd", "lbfgs"))
        check_choice("start", self.start, ("clone", "centered", "random"))
        check_choice("balance", self.balance, ("uniform", "frequency", "none"))
        check_choice("labels", self.labels, ("hard", "soft"))
        check_choice("anchor", self.anchor, ("zero", "start"))
        check_choice("augment", self.augment, ("none", "crop", "resized-crop"))
        check_choice("frozen_mode", self.frozen_mode, ("eval", "train"))
        check_choice("precision", self.precision, ("32-true", "16-mixed", "bf16-mixed"))
        check_choice("fit_head", self.fit_head, (None, "linear"))
        for name, least in (("batch_size", 1), ("views", 1), ("lr_step", 0), ("weight_decay", 0)):
            if getattr(self, name) < least:
                raise ChoiceError(f"{name} must be at least {least}; got {getattr(self, name)}")
        if self.epochs is not None and self.epochs < 0:
            raise ChoiceError(f"epochs must be at least 0; got {self.epochs}")
        if not self.temperature > 0:
            raise ChoiceError(f"temperature must be above 0; got {self.temperature}")
        if self.lr is not None and not self.lr > 0:
            raise ChoiceError(f"lr must be above 0; got {self.lr}")
        if not 0 <= self.val_share < 1 or not 0 < self.min_scale <= 1:
            raise ChoiceError("val_share must lie in [0, 1), min_scale in (0, 1]")

    @property
    def view_count(self) -> int:
        """Views of each photo: one where nothing is augmented."""
        return 1 if self.augment == "none" else self.views

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)
