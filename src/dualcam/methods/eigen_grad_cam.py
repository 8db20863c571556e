"""Eigen-Grad-CAM: gradient times activation, projected on its first principal direction (pytorch-grad-cam, 2021)."""

from torch import Tensor

from dualcam.methods import Method
from dualcam.methods.eigen_cam import first_direction
from dualcam.types import Evidence


def eigen_grad_cam(evidence: Evidence) -> Tensor:
    """Return w_i = v_i g_i per cell, [..., D, h, w]; v is the first right singular vector of g_i F_i (cells, channels).

    The map is the projection (g F) v, not centered. v is turned as in Eigen-CAM, which here means: so that the map
    correlates positively, over cells, with sum_i g_i F_i (HiResCAM's map). So positive values are evidence for the
    class, and the map of -g is minus the map of g. No paper states it; its source is the library of that name.
    """
    evidence_by_channel = evidence.gradients * evidence.activations
    direction = first_direction(evidence_by_channel.flatten(-2).transpose(-2, -1))
    return direction[..., None, None] * evidence.gradients


METHOD = Method(
    name="eigen-grad-cam",
    weights=eigen_grad_cam,
    paper="Gildenblat and contributors, pytorch-grad-cam, 2021 (Eigen-CAM of gradient times activation)",
    homogeneous=True,
    usual=False,
)
