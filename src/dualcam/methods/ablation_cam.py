"""Ablation-CAM: what the score loses without a channel (Ramaswamy & Desai, WACV 2020, eq. 3)."""

import torch
from torch import Tensor

from dualcam.methods import Method
from dualcam.types import Evidence

CHUNK = 32
"""Ablated activations, of all images together, that the head sees at once."""


def ablation_cam(evidence: Evidence) -> Tensor:
    """Return w_i = s(F) - s(F with channel i set to zero), [B, K, D, 1, 1], in units of the score.

    Where the score is linear in the pooled activations this is w_i = W_{k,i} mean(F_i), at no forward. The paper
    divides by s(F): one factor for all channels, which no normalization shows where s > 0 and which turns the map over
    where s < 0; it is left out, so that the sign is the evidence's.
    """
    activations, probes = evidence.activations, evidence.probes
    assert probes is not None
    if probes.linear:
        assert evidence.class_rows is not None
        return evidence.class_rows * activations.mean((-2, -1), keepdim=True)
    assert probes.activation_scores is not None
    whole = probes.activation_scores(activations)
    step, count = max(1, CHUNK // len(activations)), activations.shape[2]
    without = []
    for start in range(0, count, step):
        channels = torch.arange(start, min(start + step, count))
        ablated = activations.repeat(1, len(channels), 1, 1, 1)
        ablated[:, torch.arange(len(channels)), channels] = 0
        without.append(probes.activation_scores(ablated))
    return (whole - torch.cat(without, 1)).transpose(1, 2)[..., None, None]


METHOD = Method(
    name="ablation-cam",
    weights=ablation_cam,
    paper="Ramaswamy & Desai, Ablation-CAM: Visual Explanations via Gradient-free Localization, WACV 2020",
    gradient_free=True,
    usual=False,
    needs=("activation-scores",),
)
