"""Grad-CAM: the mean gradient of a channel (Selvaraju et al., ICCV 2017, eq. 1)."""

from torch import Tensor

from dualcam.methods import Method
from dualcam.types import Evidence


def grad_cam(evidence: Evidence) -> Tensor:
    """Return w_i = mean over cells of g_i, [..., D, 1, 1], in logits per unit of activation."""
    if evidence.gradients.shape[-2:] == (1, 1):  # the same in every cell, and of a thousand classes no copy
        return evidence.gradients
    return evidence.gradients.mean((-2, -1), keepdim=True)


METHOD = Method(
    name="grad-cam",
    weights=grad_cam,
    paper="Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks, ICCV 2017",
    total="sum",
    homogeneous=True,
)
