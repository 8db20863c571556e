"""The additive shift: what softmax does not see, and every map does.

W' = W + 1 d^T leaves all probabilities as they are and adds sum_i d_i F_i to the map of every class (Oh and Noh,
Beyond Softmax, BMVC 2025, on the additive logit shift).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dualcam.diagnose.agreement import Agreement, Judge, agreement, energy_share, find_all_boxes, mean_over
from dualcam.diagnose.last_layer import LastLayer
from dualcam.diagnose.maps import Drawn, Maps
from dualcam.metrics.bootstrap import Interval, mean_interval


@dataclass(frozen=True)
class ShiftEffect:
    """What shifts of one ``size`` (a share of a class row's norm) do to N photos' predicted classes.

    ``probability_change``: the largest change of any probability of any photo, double precision. ``logit_change``:
    mean |d . z|, by which all logits of a photo rise or fall. ``arbitrary``: share of the energy of the maps that the
    shifted head draws that its mean row accounts for; ``planted``: that of the shift's own part. ``negative``: share
    of the evidence that speaks against the class. ``empty``: share of photos whose positive map is zero everywhere.
    """

    size: float
    draws: int
    probability_change: float
    logit_change: Interval
    arbitrary: Interval
    planted: Interval
    negative: Interval
    empty: Interval
    agreement: Agreement


@dataclass(frozen=True)
class SigmoidShift:
    """The same shift on the sigmoid branch: its scores move. Means over photos, by ``size``.

    ``flipped`` is the share of all classes' decisions (logit above zero) that change.
    """

    size: float
    probability_change: Interval
    logit_change: Interval
    flipped: Interval


def draw_directions(inputs: Tensor, count: int, seed: int) -> Tensor:
    """Return ``count`` unit vectors [count, E]: mixes of the photos' own z [N, E] with weights from N(0, 1)."""
    generator = torch.Generator().manual_seed(seed)
    mixes: Tensor = torch.randn(count, len(inputs), generator=generator, dtype=torch.float64) @ inputs
    unit: Tensor = mixes / mixes.norm(dim=1, keepdim=True).clamp(min=1e-300)
    return unit


def probability_change(layer: LastLayer, inputs: Tensor, shift: Tensor) -> float:
    """Return the largest change of any softmax probability of z [N, E] when ``shift`` [E] joins every class row."""
    before = inputs @ layer.weight.T + layer.bias
    after = inputs @ (layer.weight + shift).T + layer.bias
    return float((before.softmax(1) - after.softmax(1)).abs().max())


def shift_effects(
    layer: LastLayer, inputs: Tensor, directions: Tensor, sizes: Sequence[float], drawn: Drawn, judge: Judge
) -> list[ShiftEffect]:
    """Return the effect by size; ``drawn.shifted`` holds the maps of all ``sizes`` x ``directions``, sizes outside."""
    assert drawn.shifted is not None
    plain, centered = drawn.plain, drawn.by_score["centered"]
    boxes = find_all_boxes(plain, judge)
    effects = []
    for number, size in enumerate(sizes):
        vectors = size * layer.row_norm * directions
        places = range(number * len(directions), (number + 1) * len(directions))
        moved = [Maps(drawn.shifted.signed[:, place], drawn.shifted.positive[:, place]) for place in places]
        effects.append(
            ShiftEffect(
                size=size,
                draws=len(directions),
                probability_change=max(probability_change(layer, inputs, vector) for vector in vectors),
                logit_change=mean_interval((inputs @ vectors.T).abs().mean(1)),
                arbitrary=mean_over([energy_share(each.signed - centered.signed, centered.signed) for each in moved]),
                planted=mean_over([energy_share(each.signed - plain.signed, plain.signed) for each in moved]),
                negative=mean_over([negative_share(each) for each in moved]),
                empty=mean_over([~(each.positive > 0).any((1, 2)) for each in moved]),
                agreement=agreement(
                    [(plain, each) for each in moved], [(boxes, find_all_boxes(m, judge)) for m in moved]
                ),
            )
        )
    return effects


def sigmoid_shifts(layer: LastLayer, inputs: Tensor, directions: Tensor, sizes: Sequence[float]) -> list[SigmoidShift]:
    """Return what the shifts do to the sigmoid branch's scores of z [N, E]."""
    before = inputs @ layer.weight.T + layer.bias
    effects = []
    for size in sizes:
        changes = inputs @ (size * layer.row_norm * directions).T
        after = [before + changes[:, [place]] for place in range(len(directions))]
        probabilities = [(each.sigmoid() - before.sigmoid()).abs().mean(1).numpy() for each in after]
        flips = [((each > 0) != (before > 0)).double().mean(1).numpy() for each in after]
        effects.append(
            SigmoidShift(size, mean_over(probabilities), mean_interval(changes.abs().mean(1)), mean_over(flips))
        )
    return effects


def negative_share(maps: Maps) -> NDArray[np.float64]:
    """Return the share [N] of each map's evidence that speaks against its class; 0 where there is none at all."""
    speaks_for = np.clip(maps.positive, 0, None).sum((-2, -1))
    against = np.clip(maps.positive - maps.signed, 0, None).sum((-2, -1))
    total = speaks_for + against
    return np.asarray(np.divide(against, total, out=np.zeros_like(total), where=total > 0))
