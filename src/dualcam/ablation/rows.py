"""What training did to the class rows: how large a shift they share, how many weights speak for a class."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dualcam.ablation.heads import HEADS
from dualcam.ablation.study import Run
from dualcam.diagnose.last_layer import LastLayer
from dualcam.heads import Head


@dataclass(frozen=True)
class RowFacts:
    """Of a linear head's rows, in percent, means over seeds.

    ``mean_row``: the mean row's norm as a share of a row's, the part of every map that all classes share.
    ``positive``: the share of weights above zero, all that a clamp leaves where F >= 0.
    """

    mean_row: float
    positive: float


def look_at_rows(runs: Sequence[Run]) -> dict[str, RowFacts]:
    """Return the facts by head; heads that are not linear, and scores whose rows depend on the photo, have none."""
    found: dict[str, list[tuple[float, float]]] = {}
    for run in runs:
        for name in run.heads:
            scored = HEADS[name].branch
            if scored in {"softmax", "softmax-centered", "sigmoid"} and run.model.softmax_head.is_linear:
                head = run.model.head("sigmoid" if scored == "sigmoid" else "softmax")
                facts = facts_of(head, centered=scored == "softmax-centered")
                found.setdefault(name, []).extend([facts] * len(run.seeds))
    return {name: RowFacts(*np.mean(facts, axis=0).tolist()) for name, facts in found.items()}


def facts_of(head: Head, *, centered: bool = False) -> tuple[float, float]:
    """Return (mean row, positive weights) in percent, of the rows less their mean row if ``centered``."""
    weight, bias = (part.detach().cpu().double() for part in head.rows())
    if centered:
        weight = weight - weight.mean(0)
    return 100 * LastLayer(head, weight, bias).mean_row_share, 100 * float((weight > 0).double().mean())
