"""What is minimized: class-balanced BCE over the views, plus weight decay towards the anchor."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from dualcam.data.label_sets import LabelSets
from dualcam.guards import evaluating
from dualcam.heads import Head
from dualcam.losses import class_balanced_bce
from dualcam.targets import to_probabilities
from dualcam.training.settings import Labels
from dualcam.types import Outputs


class Features(Protocol):
    """Where features come from: a cache, or the stream without one."""

    @property
    def views(self) -> int:
        """Number of views V of a photo."""

    @property
    def broken(self) -> dict[str, str]:
        """Which photos could not be read so far, and why."""

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Which photos can be read, [photos]."""

    def batches(
        self, order: NDArray[np.int64], batch_size: int, epoch: int
    ) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
        """Yield (rows, features)."""


class Objective(Protocol):
    """What a solver minimizes."""

    @property
    def features(self) -> Features:
        """Where the rows come from."""

    def rows(self) -> NDArray[np.int64]:
        """Return the rows to train on."""

    def loss(self, head: Head, rows: NDArray[np.int64], features: Tensor) -> Tensor:
        """Return the mean loss of a batch, without weight decay."""


@dataclass(frozen=True)
class Task:
    """Features, their photos' labels, and how both become targets.

    ``labels`` are class indices: [photos], or sets of several. ``classes`` [C] marks the classes that have photos
    (None: all of them); rows of the others are not trained. ``outputs`` makes soft labels of the classifier's logits.
    """

    features: Features
    labels: Tensor | LabelSets
    softmax_head: Head
    label_kind: Labels
    positive_weight: Tensor
    classes: Tensor | None
    temperature: float = 1.0
    outputs: Outputs = "softmax"

    def rows(self) -> NDArray[np.int64]:
        """Return the rows of all views of all usable photos."""
        return all_rows(self.features)

    @property
    def counted(self) -> int:
        """The number of classes that the loss is the mean over."""
        return self.softmax_head.classes if self.classes is None else int(self.classes.sum())

    def targets(self, rows: NDArray[np.int64], features: Tensor) -> Tensor:
        """Return targets [B, C] in [0, 1]: one- or multi-hot labels, or the classifier's probabilities of the view."""
        if self.label_kind == "soft":
            with torch.no_grad(), evaluating(self.softmax_head):
                own = features.to(next(self.softmax_head.parameters()))
                return to_probabilities(self.softmax_head.classify(own) / self.temperature, self.outputs).to(features)
        return hot(self.labels, rows // self.features.views, self.softmax_head.classes).to(features)

    def loss(self, head: Head, rows: NDArray[np.int64], features: Tensor) -> Tensor:
        """Return the mean loss of a batch, without weight decay."""
        targets = self.targets(rows, features)
        return class_balanced_bce(head.classify(features), targets, self.positive_weight.to(features), self.classes)


def hot(labels: Tensor | LabelSets, photos: NDArray[np.int64], classes: int) -> Tensor:
    """Return [B, C]: 1 at the label of each of ``photos`` [B], or at each of its labels, else 0."""
    if isinstance(labels, LabelSets):
        return torch.from_numpy(labels.multi_hot(photos, classes))
    return functional.one_hot(labels[torch.from_numpy(photos)], classes)


def all_rows(features: Features) -> NDArray[np.int64]:
    """Return the rows of all views of all usable photos."""
    photos = np.flatnonzero(features.usable)
    return (photos[:, None] * features.views + np.arange(features.views)).reshape(-1)


def decay(head: Head, anchors: list[Tensor] | None) -> Tensor:
    """Return half the squared distance of the head's weights to ``anchors`` (None: to zero).

    Biases are free: they carry how common a class is, which is the data's to say.
    """
    parameters = list(head.parameters())
    others = anchors if anchors is not None else [torch.zeros_like(p) for p in parameters]
    pairs = zip(parameters, others, strict=True)
    return torch.stack([(p - a).square().sum() for p, a in pairs if decays(p)]).sum() / 2


def widest(device: torch.device) -> torch.dtype:
    """Return the widest floating type that ``device`` has: Apple's have no double precision."""
    return torch.float32 if device.type == "mps" else torch.float64


def decays(parameter: Tensor) -> bool:
    """Whether weight decay acts on ``parameter``: on matrices and kernels, not on biases and norms."""
    return parameter.dim() > 1
