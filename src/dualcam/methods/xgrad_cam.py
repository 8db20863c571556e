"""XGrad-CAM: gradients averaged with the activations as weights (Fu et al., BMVC 2020, eq. 8)."""

import torch
from torch import Tensor

from dualcam.methods import Method
from dualcam.types import Evidence


def xgrad_cam(evidence: Evidence) -> Tensor:
    """Return w_i = sum(g_i F_i) / sum(F_i) over cells, [..., D, 1, 1]; 0 for a channel whose activations sum to 0."""
    gradients, activations = evidence.gradients, evidence.activations
    if gradients.shape[-2:] == (1, 1):  # the same gradient in every cell is its own weighted mean
        return gradients
    total = activations.sum((-2, -1), keepdim=True)
    weighted = (gradients * activations).sum((-2, -1), keepdim=True)
    return torch.where(total == 0, 0.0, weighted / torch.where(total == 0, 1.0, total))


METHOD = Method(
    name="xgrad-cam",
    weights=xgrad_cam,
    paper="Fu et al., Axiom-based Grad-CAM: Towards Accurate Visualization and Explanation of CNNs, BMVC 2020",
    total="sum",
    homogeneous=True,
)
