"""Does training undo a shift? The last layer of a branch, shifted and trained again on fixed inputs.

Binary cross-entropy has one optimum in the directions that the data span, so at its optimum nothing of a shift is left
there; outside only weight decay acts. Cross-entropy never moves the mean row: sum_k dL/dW_k = 0 on any data.

Everything is computed in the coordinates of the span: gradient descent and L-BFGS know inner products only, so an
orthogonal change of coordinates changes no step, and all directions outside of the span behave like one of them.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from dualcam.diagnose.last_layer import LastLayer
from dualcam.diagnose.shift import draw_directions
from dualcam.heads import Head
from dualcam.losses import class_balanced_bce, positive_weights
from dualcam.training.lbfgs import RELATIVE_GAIN, Lbfgs
from dualcam.training.memory import InMemory
from dualcam.training.objective import all_rows
from dualcam.training.run import SGD_EPOCHS
from dualcam.training.settings import TrainingSettings
from dualcam.training.sgd import Sgd

MOST_CLASSES = 64
"""Class rows that are trained again; they do not interact."""
RANK_TOLERANCE = 1e-6
"""Singular values below this share of the largest are rounding, not a direction that the data span."""
STOP, MOST_ROUNDS = 1e-11, 60
"""L-BFGS goes on until a round of 25 iterations gains less than this share: rows are compared, not only losses."""
Solver = Literal["sgd", "lbfgs"]


@dataclass(frozen=True)
class Left:
    """What is left of a difference between two starts after training both, root mean square over class rows.

    Shares of what it was at the start: of the ``scores`` on the training rows, of the rows ``inside`` of the span of
    [z, 1], and ``outside`` of it (None where the data span everything).
    """

    solver: Solver
    start: str
    scores: float
    inside: float
    outside: float | None


@dataclass(frozen=True)
class Recovery:
    """A retraining in figures.

    ``rows`` training inputs (views of photos) span ``rank`` of ``dimensions`` directions; ``classes_trained`` rows were
    trained. ``epochs`` of SGD in ``steps`` steps; ``rounds`` of L-BFGS at most, of which the last gained at most
    ``last_gain`` of the objective; ``converged`` where that is no more than `dualcam train` asks for.
    ``cross_entropy_kept`` is the share of the planted offset in the mean row after cross-entropy training by SGD from
    the shifted softmax rows, ``cross_entropy_drift`` how far the mean row moved, as a share of the offset.
    """

    size: float
    rows: int
    rank: int
    dimensions: int
    classes_trained: int
    epochs: int
    steps: int
    rounds: int
    last_gain: float
    converged: bool
    weight_decay: float
    left: tuple[Left, ...]
    cross_entropy_kept: float
    cross_entropy_drift: float


@dataclass(frozen=True)
class Coordinates:
    """An orthonormal ``basis`` [E, r] of what the inputs span, and one unit vector ``outside`` [E, 1], or [E, 0]."""

    basis: Tensor
    outside: Tensor

    def of(self, vectors: Tensor) -> Tensor:
        """Return the coordinates [..., r + 1] (or r) of ``vectors`` [..., E]."""
        return vectors @ torch.cat((self.basis, self.outside), 1)


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


def find_coordinates(inputs: Tensor, seed: int) -> Coordinates:
    """Return coordinates of the span of ``inputs`` [N, E], and a direction outside drawn by ``seed``."""
    _, values, right = torch.linalg.svd(inputs, full_matrices=False)
    rank = int((values > RANK_TOLERANCE * values.max()).sum())
    basis = right[:rank].T
    if rank == inputs.shape[1]:
        return Coordinates(basis, inputs.new_zeros(inputs.shape[1], 0))
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(inputs.shape[1], generator=generator, dtype=inputs.dtype)
    for _ in range(2):  # once more, against rounding
        drawn = drawn - basis @ (basis.T @ drawn)
    return Coordinates(basis, (drawn / drawn.norm())[:, None])


def measure_recovery(
    branch: LastLayer,
    softmax: LastLayer,
    inputs: Tensor,
    softmax_inputs: Tensor,
    labels: Tensor,
    *,
    size: float = 1.0,
    draws: int = 2,
    seed: int = 0,
    settings: TrainingSettings | None = None,
    solvers: Sequence[Solver] = ("sgd", "lbfgs"),
    advance: Callable[[], None] = lambda: None,
) -> Recovery | None:
    """Train ``branch``'s rows again from shifted and from random starts, and the softmax rows by cross-entropy.

    Rows of classes without photos stay as they are, as in `dualcam train`; None where all labels are one class.
    ``inputs`` [N, E] of both last layers, ``labels`` [N] class indices. The shift has the norm ``size`` x a row's; half
    of its energy lies in the span (a mix of the inputs, with the bias that belongs to it), half outside, if there is an
    outside. ``settings``: the recipe's by default.
    """
    recipe = settings or TrainingSettings()
    coordinates = find_coordinates(inputs, seed)
    values = coordinates.of(inputs)
    values[:, coordinates.basis.shape[1] :] = 0
    chosen = choose_classes(labels, seed)
    if not len(chosen):
        return None
    targets = (labels[:, None] == chosen).double()
    weight = positive_weights(labels, len(branch.weight), "frequency").double()[chosen]
    task = BalancedRows(InMemory(values), targets, weight, len(chosen) / len(branch.weight))
    start = _head(coordinates.of(branch.weight[chosen]), branch.bias[chosen])
    starts = {
        f"shifted {number + 1}": _shifted(start, vector)
        for number, vector in enumerate(_shifts(inputs, coordinates, size * branch.row_norm, draws, seed))
    }
    starts["random"] = _random_like(start, seed)
    rate = len(branch.weight) / _mean_square(values)
    left: list[Left] = []
    gain, rounds = 0.0, 0
    projector = _span_with_bias(values)
    for solver in solvers:
        how = replace(recipe, solver=solver)
        plain, last, most = _train(start, task, how, rate)
        advance()
        for name, other in starts.items():
            reached, gained, count = _train(other, task, how, rate)
            last, most = max(last, gained), max(most, count)
            pair = (start, other), (plain, reached)
            left.append(_left(solver, name, pair, values, projector, outside=coordinates.outside.shape[1] > 0))
            advance()
        if solver == "lbfgs":
            gain, rounds = last, most
    kept, drift = keep_offset(softmax, softmax_inputs, labels, size=size, seed=seed, settings=recipe)
    advance()
    epochs = SGD_EPOCHS if recipe.epochs is None else recipe.epochs
    return Recovery(
        size=size,
        rows=len(inputs),
        rank=coordinates.basis.shape[1],
        dimensions=inputs.shape[1],
        classes_trained=len(chosen),
        epochs=epochs,
        steps=epochs * -(-len(inputs) // recipe.batch_size),
        rounds=rounds,
        last_gain=gain,
        converged=gain <= RELATIVE_GAIN,
        weight_decay=recipe.weight_decay,
        left=tuple(left),
        cross_entropy_kept=kept,
        cross_entropy_drift=drift,
    )


def keep_offset(
    layer: LastLayer, inputs: Tensor, labels: Tensor, *, size: float, seed: int, settings: TrainingSettings
) -> tuple[float, float]:
    """Return (share kept, drift) of an offset in the mean row under cross-entropy by SGD, without weight decay."""
    coordinates = find_coordinates(inputs, seed)
    values = coordinates.of(inputs)
    start = _head(coordinates.of(layer.weight), layer.bias)
    (vector,) = _shifts(inputs, coordinates, size * layer.row_norm, 1, seed)
    shifted = _shifted(start, vector)
    rate = 1 / _mean_square(values)
    task = CrossEntropy(InMemory(values), labels)
    reached, _, _ = _train(shifted, task, replace(settings, solver="sgd", weight_decay=0.0), rate)
    offset = _flat(reached).mean(0) - _flat(start).mean(0)
    drift = float((offset - vector).norm() / vector.norm())
    return float(offset @ vector / vector.square().sum()), drift


def choose_classes(labels: Tensor, seed: int) -> Tensor:
    """Return the classes that some but not all of ``labels`` name, sorted; of more than `MOST_CLASSES` a sample.

    A row without positives, or without negatives, has no finite optimum: its bias runs away.
    """
    present, counts = np.unique(labels.numpy(), return_counts=True)
    usable = present[counts < len(labels)]
    order = np.random.default_rng(seed).permutation(len(usable))[:MOST_CLASSES]
    return torch.from_numpy(np.sort(usable[order]))


def _mean_square(values: Tensor) -> float:
    """Return the mean squared norm of [z, 1], which bounds a stable step; the bias's 1 counts where z is tiny."""
    return float(values.square().sum(1).mean()) + 1


def _shifts(inputs: Tensor, coordinates: Coordinates, norm: float, draws: int, seed: int) -> list[Tensor]:
    """Return shifts of rows and biases, [r + 2] (or r + 1) in coordinates with the bias last, of the given norm."""
    ones = inputs.new_ones(len(inputs), 1)
    mixes = draw_directions(torch.cat((inputs, ones), 1), draws, seed + 1)
    inside = torch.cat((coordinates.of(mixes[:, :-1]), mixes[:, -1:]), 1)
    if not coordinates.outside.shape[1]:
        return list(norm * inside)
    inside[:, -2] = 1.0
    return list(norm * inside / 2**0.5)


def _span_with_bias(values: Tensor) -> Tensor:
    """Return an orthonormal basis [q, r + 2] (or r + 1) of the span of [values, 1]."""
    _, singular, right = torch.linalg.svd(torch.cat((values, values.new_ones(len(values), 1)), 1), full_matrices=False)
    spanned: Tensor = right[singular > RANK_TOLERANCE * singular.max()]
    return spanned


def _left(
    solver: Solver,
    name: str,
    pair: tuple[tuple[Head, Head], tuple[Head, Head]],
    values: Tensor,
    projector: Tensor,
    *,
    outside: bool,
) -> Left:
    before, after = (_flat(second) - _flat(first) for first, second in pair)
    augmented = torch.cat((values, values.new_ones(len(values), 1)), 1)

    def share(matrix: Tensor) -> float:
        return float((after @ matrix.T).norm() / (before @ matrix.T).norm().clamp(min=1e-300))

    beyond = torch.zeros(1, before.shape[1], dtype=before.dtype)
    beyond[0, -2] = 1
    return Left(solver, name, share(augmented), share(projector), share(beyond) if outside else None)


def _head(weight: Tensor, bias: Tensor) -> Head:
    linear = nn.Linear(weight.shape[1], len(weight), dtype=torch.float64)
    with torch.no_grad():
        linear.weight.copy_(weight)
        linear.bias.copy_(bias)
    return Head.pooled_linear(linear)


def _shifted(head: Head, vector: Tensor) -> Head:
    rows = head.rows()
    return _head(rows.weight.detach() + vector[:-1], rows.bias.detach() + vector[-1])


def _random_like(head: Head, seed: int) -> Head:
    shape = head.rows().weight.shape
    drawn = 0.01 * torch.randn(shape, generator=torch.Generator().manual_seed(seed + 2), dtype=torch.float64)
    return _head(drawn, torch.zeros(shape[0], dtype=torch.float64))


def _flat(head: Head) -> Tensor:
    """Return rows and biases as [K, r + 2] (or r + 1), the bias last."""
    rows = head.rows()
    return torch.cat((rows.weight.detach(), rows.bias.detach()[:, None]), 1)


def _train(
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
