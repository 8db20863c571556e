"""Sign collapse: the smallest common shift that empties a class's map, while softmax stays as it is.

Over all F >= 0 no weight of the class may stay positive, so d_i = -max(W_ki, 0) (Oh and Noh, Beyond Softmax, BMVC
2025, on sign collapse). For one photo less is enough: only the channels that are active in it; or, for the map after
summation, sum_i (W_ki + d_i) F_i <= 0 in each of its cells, a quadratic program. Where activations can be negative,
or the head is not linear, d = -W_k empties the map of any photo by any method: the class's row is then zero.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dualcam.diagnose.forwards import Forwards
from dualcam.diagnose.last_layer import LastLayer
from dualcam.diagnose.maps import Maps, shift_evidence
from dualcam.diagnose.shift import negative_share, probability_change
from dualcam.evidence import gather_evidence
from dualcam.guards import evaluating
from dualcam.heatmap import combine, weight_parts
from dualcam.methods import Method
from dualcam.metrics.bootstrap import Interval, mean_interval

Law = Literal["positive weights", "whole row"]


@dataclass(frozen=True)
class Collapse:
    """Norms of the smallest shifts as shares of the class row's own norm, and whether they do what they should.

    ``any_photo`` empties the map of every photo: over all C classes, then over the predicted classes. ``channels``: of
    the photo's active channels only, None where the law is "whole row"; ``cells``: that leaves no cell of the photo's
    signed map above zero, None where the head is not linear. ``map_left``: the highest value that any of these
    shifts leaves of a map, over the map's largest magnitude before; ``probability_change``: the largest change of any
    probability. ``negative`` is the share of the predicted class's evidence that speaks against it, ``mostly_negative``
    the share of photos where that is above a half, ``classes_mostly_negative`` the share of the predicted classes
    (means over their photos).
    """

    law: Law
    classes_mean: float
    classes_least: float
    classes: int
    any_photo: Interval
    channels: Interval | None
    cells: Interval | None
    map_left: float
    probability_change: float
    negative: Interval
    mostly_negative: Interval
    classes_mostly_negative: Interval


@dataclass(frozen=True)
class OfOnePhoto:
    """Shifts that empty one photo's map, as shares of the row's norm, and what they leave of it (see `Collapse`)."""

    channels: float
    cells: float
    left: float


def smallest_shift(row: Tensor) -> Tensor:
    """Return the smallest d [E] after which ``row`` + d has no positive weight."""
    return -row.clamp(min=0)


def smallest_shift_of_cells(row: Tensor, cells: Tensor) -> Tensor:
    """Return the smallest d [D] with (``row`` + d) . F <= 0 for every column F of ``cells`` [D, n].

    d = -F x, where x >= 0 minimizes |F x|^2 / 2 - m . x with the map m: non-negative least squares in its Gram form
    (Bro and de Jong, A fast non-negativity-constrained least squares algorithm, 1997).
    """
    gram, target = (cells.T @ cells).numpy(), (row @ cells).numpy()
    return -cells @ torch.from_numpy(nonnegative_solution(gram, target))


def nonnegative_solution(gram: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the x >= 0 that minimizes x' G x / 2 - t' x, by active sets; G [n, n] is positive semidefinite."""
    scale = float(np.trace(gram)) / max(len(gram), 1)
    steady = gram + 1e-12 * scale * np.eye(len(gram))
    tolerance = 1e-10 * float(np.abs(target).max(initial=0))
    free = np.zeros(len(gram), dtype=bool)
    x = np.zeros(len(gram))
    for _ in range(3 * len(gram)):
        slope = np.where(free, -np.inf, target - steady @ x)
        if not slope.max(initial=-np.inf) > tolerance:
            break
        free[int(slope.argmax())] = True
        while True:
            trial = np.zeros(len(gram))
            trial[free] = np.linalg.solve(steady[np.ix_(free, free)], target[free])
            wrong = free & (trial <= 0)
            if not wrong.any():
                break
            step = np.min(x[wrong] / np.maximum(x[wrong] - trial[wrong], 1e-300))
            x += step * (trial - x)
            free &= x > 1e-14 * max(float(x.max()), 1e-300)
            x[~free] = 0
        x = trial
    return x


def measure_collapse(
    layer: LastLayer, inputs: Tensor, forwards: Forwards, index: Tensor, method: Method, plain: Maps
) -> Collapse:
    """Collapse the map of each photo's class ``index`` [N], and look at what is left; ``plain`` are the maps before."""
    nonnegative = forwards.model.anatomy.nonnegative
    law: Law = "positive weights" if layer.head.is_linear and nonnegative else "whole row"
    norms = layer.weight.norm(dim=1).clamp(min=1e-300)
    shifts = -(layer.weight.clamp(min=0) if law == "positive weights" else layer.weight)
    after = highest_after(layer, forwards, index, method, shifts[index])
    before = np.maximum(np.abs(plain.signed).max((1, 2)), 1e-300)
    own: list[OfOnePhoto] = []
    if layer.head.is_linear:
        photos = zip(forwards.kept, index.tolist(), strict=True)
        own = [_shifts_of_one_photo(layer, kept, chosen, nonnegative=nonnegative) for kept, chosen in photos]
    channels, cells = [each.channels for each in own if nonnegative], [each.cells for each in own]
    shares = shifts.norm(dim=1) / norms
    against = negative_share(plain)
    by_class = [against[index.numpy() == chosen].mean() for chosen in np.unique(index.numpy())]
    return Collapse(
        law=law,
        classes_mean=float(shares.mean()),
        classes_least=float(shares.min()),
        classes=len(shares),
        any_photo=mean_interval(shares[index]),
        channels=mean_interval(channels) if channels else None,
        cells=mean_interval(cells) if cells else None,
        map_left=max(0.0, float((after / before).max()), *(each.left for each in own)),
        probability_change=max(
            probability_change(layer, inputs[[photo]], shifts[chosen]) for photo, chosen in enumerate(index.tolist())
        ),
        negative=mean_interval(against),
        mostly_negative=mean_interval(against > 0.5),
        classes_mostly_negative=mean_interval(np.asarray(by_class) > 0.5),
    )


def _shifts_of_one_photo(layer: LastLayer, activations: Tensor, chosen: int, *, nonnegative: bool) -> OfOnePhoto:
    """Return what empties the map of ``activations`` [D, h, w], and run it."""
    flat, row = activations.double().flatten(1), layer.weight[chosen]
    active, cells = smallest_shift(row) * (flat.amax(1) > 0), smallest_shift_of_cells(row, flat)
    left = ((row + cells) @ flat).max()
    if nonnegative:
        left = torch.maximum(left, ((row + active).clamp(min=0) @ flat).max())
    norm, before = row.norm().clamp(min=1e-300), (row @ flat).abs().max().clamp(min=1e-300)
    return OfOnePhoto(float(active.norm() / norm), float(cells.norm() / norm), float(left / before))


def highest_after(
    layer: LastLayer, forwards: Forwards, index: Tensor, method: Method, shifts: Tensor
) -> NDArray[np.float64]:
    """Return the highest value [N] of the positive maps of ``index`` [N]; a photo's shift is its row of ``shifts``."""
    found = []
    for places, tapped in forwards.batches():
        chosen = index[places].to(tapped.activations.device).unsqueeze(1)
        with evaluating(layer.head):
            evidence = gather_evidence(layer.head, tapped, chosen, "logit")
        moved = shift_evidence(evidence, layer, tapped, shifts[places].unsqueeze(1))
        with torch.no_grad():
            clamp = forwards.model.anatomy.nonnegative
            maps = combine(weight_parts(method, moved), moved.activations, "positive", clamp_weights=clamp)
        found.append(maps.flatten(1).amax(1).cpu().double().numpy())
    return np.concatenate(found)
