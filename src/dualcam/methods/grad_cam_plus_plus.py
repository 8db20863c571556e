"""Grad-CAM++: gradients weighted by a ratio of higher derivatives (Chattopadhay et al., WACV 2018, eq. 19)."""

import torch
from torch import Tensor

from dualcam.methods import Method
from dualcam.types import Evidence


def grad_cam_plus_plus(evidence: Evidence) -> Tensor:
    """Return w_i = sum over cells of alpha_i relu(g_i), alpha = g^2 / (2 g^2 + sum(F) g^3), [..., D, 1, 1].

    A factor g^2 is cancelled, alpha = 1 / (2 + sum(F) g), so no epsilon is needed and small gradients keep their
    weight; where g = 0 nothing is added, and where the denominator is 0 alpha is 0.
    """
    gradients, activations = evidence.gradients, evidence.activations
    cells = activations.shape[-2] * activations.shape[-1]
    denominator = 2 + activations.sum((-2, -1), keepdim=True) * gradients
    alpha = torch.where(denominator == 0, 0.0, 1 / torch.where(denominator == 0, 1.0, denominator))
    return (alpha * gradients.clamp(min=0)).mean((-2, -1), keepdim=True) * cells


METHOD = Method(
    name="grad-cam++",
    weights=grad_cam_plus_plus,
    paper="Chattopadhay et al., Grad-CAM++: Improved Visual Explanations for Deep Convolutional Networks, WACV 2018",
    rectified=True,
)
