"""Train the rows of a linear head again on fixed inputs, by the solvers and losses of `dualcam train`, or by others."""

from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from dualcam.heads import Head
from dualcam.losses import class_balanced_bce
from dualcam.training.lbfgs import Lbfgs
from dualcam.training.memory import InMemory
from dualcam.training.objective import all_rows
from dualcam.training.run import SGD_EPOCHS
from dualcam.training.settings import TrainingSettings
from dualcam.training.sgd import Sgd

STOP, MOST_ROUNDS = 1e-11, 60
"""L-BFGS goes on until a round of 25 iterations gains less than this share: rows are compared, not only losses."""


@dataclass(frozen=True)
class BalancedRows:
    """Class-balanced BCE of some rows, as the mean over all C classes has it; ``targets`` [N, K] of these rows."""

    features: InMemory
    targets: Tensor
    positive_weight: Tensor
    share: float

    def rows(self) -> NDArray[np.int64]:
        """Return all rows."""
        return all_rows(self.features)

    def loss(self, head: Head, rows: NDArray[np.int64], features: Tensor) -> Tensor:
        """Return the rows' part of the mean loss of a batch."""
        targets = self.targets[torch.from_numpy(rows)]
        return self.share * class_balanced_bce(head.classify(features), targets, self.positive_weight)


@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy of all classes with ``labels`` [N]."""

    features: InMemory
    labels: Tensor

    def rows(self) -> NDArray[np.int64]:
        """Return all rows."""
        return all_rows(self.features)

    def loss(self, head: Head, rows: NDArray[np.int64], features: Tensor) -> Tensor:
        """Return the mean loss of a batch."""
        return functional.cross_entropy(head.classify(features), self.labels[torch.from_numpy(rows)])


def head_of(weight: Tensor, bias: Tensor) -> Head:
    """Return a linear head with the rows ``weight`` [K, r] and ``bias`` [K]."""
    linear = nn.Linear(weight.shape[1], len(weight), dtype=torch.float64)
    with torch.no_grad():
        linear.weight.copy_(weight)
        linear.bias.copy_(bias)
    return Head.pooled_linear(linear)


def shifted(head: Head, vector: Tensor) -> Head:
    """Return the head with ``vector`` [r + 1] added to all rows, its last number to the biases."""
    rows = head.rows()
    return head_of(rows.weight.detach() + vector[:-1], rows.bias.detach() + vector[-1])


def random_like(head: Head, seed: int) -> Head:
    """Return a head of that shape as `dualcam train --start random` draws it: N(0, 0.01), no bias."""
    shape = head.rows().weight.shape
    drawn = 0.01 * torch.randn(shape, generator=torch.Generator().manual_seed(seed + 2), dtype=torch.float64)
    return head_of(drawn, torch.zeros(shape[0], dtype=torch.float64))


def flat(head: Head) -> Tensor:
    """Return rows and biases as [K, r + 1], the bias last."""
    rows = head.rows()
    return torch.cat((rows.weight.detach(), rows.bias.detach()[:, None]), 1)


def train_rows(
    start: Head, task: BalancedRows | CrossEntropy, settings: TrainingSettings, rate: float
) -> tuple[Head, float, int]:
    """Return the head after training from ``start``, the relative gain of L-BFGS's last round, and the epochs."""
    head = deepcopy(start)
    cpu = torch.device("cpu")
    if settings.solver == "sgd":
        sgd = Sgd(head, task, settings, cpu, settings.lr or rate)
        epochs = SGD_EPOCHS if settings.epochs is None else settings.epochs
        first: float | None = None
        for number in range(epochs):
            loss = sgd.epoch(number, first, lambda count: None)
            first = loss if first is None else first
        return head, 0.0, epochs
    lbfgs = Lbfgs(head, task, settings, cpu)
    before, gain, count = float("inf"), float("inf"), 0
    while gain > STOP and count < MOST_ROUNDS:
        reached = lbfgs.epoch(count, None, lambda rows: None)
        before, gain, count = reached, (before - reached) / max(abs(reached), 1e-300), count + 1
    return head, max(gain, 0.0), count
