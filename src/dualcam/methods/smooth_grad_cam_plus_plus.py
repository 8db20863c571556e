"""Smooth Grad-CAM++: Grad-CAM++ of gradients averaged under noise (Omeiza et al., arXiv 1908.01224, 2019, eq. 8-10)."""

import torch
from torch import Tensor

from dualcam.methods import Method
from dualcam.types import Evidence


def smooth_grad_cam_plus_plus(evidence: Evidence) -> Tensor:
    """Return w_i = sum over cells of alpha_i relu(m1_i), alpha = m2 / (2 m2 + sum(F) m3), [B, K, D, 1, 1].

    m1, m2, m3 are the means of g, g^2, g^3 over noisy images; F is that of the clean one. One image without noise is
    Grad-CAM++; the published alpha has m1 over the bar, by which it would not be. Where m2 = 0 nothing is added, and
    where the denominator is 0 alpha is 0. On linear heads noise does not move the gradient of the logit: Grad-CAM++.
    """
    activations, probes = evidence.activations, evidence.probes
    assert probes is not None
    assert probes.moments is not None
    first, second, third = probes.moments
    total = activations.sum((-2, -1), keepdim=True).to(first.dtype)
    denominator = 2 * second + total * third
    alpha = torch.where(denominator == 0, 0.0, second / torch.where(denominator == 0, 1.0, denominator))
    cells = activations.shape[-2] * activations.shape[-1]
    weights = (alpha * first.clamp(min=0)).mean((-2, -1), keepdim=True) * cells
    return weights.to(activations.dtype)


METHOD = Method(
    name="smooth-grad-cam++",
    weights=smooth_grad_cam_plus_plus,
    paper="Omeiza et al., Smooth Grad-CAM++: Enhanced Inference Level Visualization, arXiv 1908.01224, 2019",
    rectified=True,
    usual=False,
    needs=("moments",),
    reads=("samples", "noise", "seed"),
)
