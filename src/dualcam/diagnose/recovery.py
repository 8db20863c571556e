"""Does training undo a shift? The last layer of a branch, shifted and trained again on fixed inputs.

Binary cross-entropy has one optimum in the directions that the data span, so at its optimum nothing of a shift is left
there; outside only weight decay acts. Cross-entropy never moves the mean row: sum_k dL/dW_k = 0 on any data.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from dualcam.diagnose.last_layer import LastLayer
from dualcam.diagnose.retrain import BalancedRows, CrossEntropy, flat, head_of, random_like, shifted, train_rows
from dualcam.diagnose.span import Coordinates, find_coordinates, planted_shifts, span_with_bias
from dualcam.heads import Head
from dualcam.losses import positive_weights
from dualcam.training.lbfgs import RELATIVE_GAIN
from dualcam.training.measure import stable_lr
from dualcam.training.memory import InMemory
from dualcam.training.run import SGD_EPOCHS
from dualcam.training.settings import Solver, TrainingSettings

MOST_CLASSES = 64
"""Class rows that are trained again; they do not interact."""


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
class Starts:
    """The rows as they are, others by name from where they are trained as well, and what they are trained on.

    ``values`` [N, r + 1] (or r) are the inputs in the coordinates of their span, ``projector`` is `span_with_bias` of
    them, and ``outside`` says whether a last coordinate lies outside.
    """

    plain: Head
    others: dict[str, Head]
    task: BalancedRows
    rate: float
    values: Tensor
    projector: Tensor
    outside: bool


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
    chosen = choose_classes(labels, seed)
    if not len(chosen):
        return None
    starts = _make_starts(branch, inputs, coordinates, labels, chosen, size=size, draws=draws, seed=seed)
    runs = {solver: _train_all(starts, replace(recipe, solver=solver), advance) for solver in solvers}
    _, gain, rounds = runs.get("lbfgs", ([], 0.0, 0))
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
        left=tuple(left for found, _, _ in runs.values() for left in found),
        cross_entropy_kept=kept,
        cross_entropy_drift=drift,
    )


def _make_starts(
    branch: LastLayer,
    inputs: Tensor,
    coordinates: Coordinates,
    labels: Tensor,
    chosen: Tensor,
    *,
    size: float,
    draws: int,
    seed: int,
) -> Starts:
    values = coordinates.of(inputs)
    values[:, coordinates.basis.shape[1] :] = 0
    targets = (labels[:, None] == chosen).double()
    weight = positive_weights(labels, len(branch.weight), "frequency").double()[chosen]
    plain = head_of(coordinates.of(branch.weight[chosen]), branch.bias[chosen])
    vectors = planted_shifts(inputs, coordinates, size * branch.row_norm, draws, seed)
    others = {f"shifted {number + 1}": shifted(plain, vector) for number, vector in enumerate(vectors)}
    task = BalancedRows(InMemory(values), targets, weight, len(chosen) / len(branch.weight))
    return Starts(
        plain=plain,
        others=others | {"random": random_like(plain, seed)},
        task=task,
        rate=stable_lr(plain, task, len(branch.weight)),
        values=values,
        projector=span_with_bias(values),
        outside=coordinates.outside.shape[1] > 0,
    )


def _train_all(
    starts: Starts, settings: TrainingSettings, advance: Callable[[], None]
) -> tuple[list[Left], float, int]:
    """Return what is left from each start; of L-BFGS also the largest last gain, and the most rounds."""
    plain, gain, rounds = train_rows(starts.plain, starts.task, settings, starts.rate)
    advance()
    found = []
    for name, other in starts.others.items():
        reached, gained, count = train_rows(other, starts.task, settings, starts.rate)
        gain, rounds = max(gain, gained), max(rounds, count)
        before, after = flat(other) - flat(starts.plain), flat(reached) - flat(plain)
        found.append(_left(settings.solver, name, before, after, starts))
        advance()
    return found, gain, rounds


def _left(solver: Solver, name: str, before: Tensor, after: Tensor, starts: Starts) -> Left:
    augmented = torch.cat((starts.values, starts.values.new_ones(len(starts.values), 1)), 1)

    def share(matrix: Tensor) -> float:
        return float((after @ matrix.T).norm() / (before @ matrix.T).norm().clamp(min=1e-300))

    beyond = torch.zeros(1, before.shape[1], dtype=before.dtype)
    beyond[0, -2] = 1
    return Left(solver, name, share(augmented), share(starts.projector), share(beyond) if starts.outside else None)


def keep_offset(
    layer: LastLayer, inputs: Tensor, labels: Tensor, *, size: float, seed: int, settings: TrainingSettings
) -> tuple[float, float]:
    """Return (share kept, drift) of an offset in the mean row under cross-entropy by SGD, without weight decay."""
    coordinates = find_coordinates(inputs, seed)
    values = coordinates.of(inputs)
    start = head_of(coordinates.of(layer.weight), layer.bias)
    (vector,) = planted_shifts(inputs, coordinates, size * layer.row_norm, 1, seed)
    moved = shifted(start, vector)
    task = CrossEntropy(InMemory(values), labels)
    rate = stable_lr(start, task, 1)
    reached, _, _ = train_rows(moved, task, replace(settings, solver="sgd", weight_decay=0.0), rate)
    offset = flat(reached).mean(0) - flat(start).mean(0)
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
