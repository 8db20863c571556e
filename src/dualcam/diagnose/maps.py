"""The maps that are compared: one class of each photo, by every score, and under shifts of the softmax rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dualcam.diagnose.forwards import Forwards
from dualcam.diagnose.last_layer import LastLayer, exact
from dualcam.evidence import gather_evidence
from dualcam.guards import evaluating
from dualcam.heads import Head
from dualcam.heatmap import combine, weight_parts
from dualcam.methods import Method
from dualcam.targets import SCORES
from dualcam.types import Evidence, Score, Tapped

SIGMOID = "sigmoid"


@dataclass(frozen=True)
class Maps:
    """Signed and positive maps [..., h, w] of the same photos, in logits (or the score's unit), double precision."""

    signed: NDArray[np.float64]
    positive: NDArray[np.float64]


@dataclass(frozen=True)
class Drawn:
    """All maps of N photos: by score of the softmax branch and of the sigmoid branch [N, h, w], and shifted ones.

    ``shifted`` are the plain softmax maps [N, S, h, w] after each of S shifts; None where there is nothing to shift.
    """

    by_score: dict[str, Maps]
    shifted: Maps | None

    @property
    def plain(self) -> Maps:
        """The softmax branch's own maps."""
        return self.by_score["logit"]


def draw_maps(forwards: Forwards, index: Tensor, method: Method, layer: LastLayer | None, shifts: Tensor) -> Drawn:
    """Return the maps of the classes ``index`` [N] of N photos; ``shifts`` are [S, E]."""
    softmax, sigmoid = (exact(head) for head in (forwards.model.softmax_head, forwards.model.sigmoid_head))
    signs = forwards.model.anatomy.nonnegative
    found: dict[str, list[Maps]] = {}
    for places, tapped in forwards.batches():
        chosen = index[places].to(tapped.activations.device).unsqueeze(1)
        for score in SCORES:
            evidence = _evidence(softmax, tapped, chosen, score)
            found.setdefault(score, []).append(_combine(method, evidence, clamp_weights=signs, single=True))
            if score == "logit" and layer is not None and len(shifts):
                moved = shift_evidence(evidence, layer, tapped, shifts)
                found.setdefault("shifted", []).append(_combine(method, moved, clamp_weights=signs))
        evidence = _evidence(sigmoid, tapped, chosen, "logit")
        found.setdefault(SIGMOID, []).append(_combine(method, evidence, clamp_weights=signs, single=True))
    shifted = found.pop("shifted", None)
    return Drawn({name: _join(parts) for name, parts in found.items()}, _join(shifted) if shifted else None)


def shift_evidence(evidence: Evidence, layer: LastLayer, tapped: Tapped, shifts: Tensor) -> Evidence:
    """Return the evidence of one class [B, 1, D, ...] after each of ``shifts`` of all class rows.

    They are [S, E], or [B, S, E] where each photo has its own.
    """
    gradients = evidence.gradients + layer.gradients(tapped, shifts).to(evidence.gradients)
    rows = None
    if evidence.class_rows is not None:
        rows = evidence.class_rows + shifts.to(evidence.class_rows)[..., None, None]
    return Evidence(evidence.activations, gradients, rows)


def _evidence(head: Head, tapped: Tapped, index: Tensor, score: Score) -> Evidence:
    with evaluating(head):
        return gather_evidence(head, tapped, index, score)


def _combine(method: Method, evidence: Evidence, *, clamp_weights: bool, single: bool = False) -> Maps:
    with torch.no_grad():
        parts = weight_parts(method, evidence)
        signed = combine(parts, evidence.activations, "signed", clamp_weights=clamp_weights)
        positive = combine(parts, evidence.activations, "positive", clamp_weights=clamp_weights)
    pair = (each.squeeze(1) if single else each for each in (signed, positive))
    return Maps(*(each.cpu().double().numpy() for each in pair))


def _join(parts: Sequence[Maps]) -> Maps:
    return Maps(np.concatenate([each.signed for each in parts]), np.concatenate([each.positive for each in parts]))
