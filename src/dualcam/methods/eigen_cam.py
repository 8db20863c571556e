"""Eigen-CAM: activations projected on their first principal direction (Muhammad & Yeasin, IJCNN 2020, eq. 3)."""

import numpy as np
import torch
from torch import Tensor

from dualcam.methods import Method
from dualcam.types import Evidence


def eigen_cam(evidence: Evidence) -> Tensor:
    """Return w = v, the first right singular vector of F as a matrix of cells by channels, [..., D, 1, 1].

    Not centered, as in the paper. v is turned so that its components sum to no less than 0, which is the same as: so
    that the map correlates positively, over cells, with the channels' sum (F'F v = s^2 v). For F >= 0 no weight is
    negative then (Perron-Frobenius). The map knows no class: it shows where the activations are, not what for.
    """
    direction = first_direction(evidence.activations.flatten(-2).transpose(-2, -1))
    leading = np.broadcast_shapes(evidence.activations.shape[:-3], evidence.gradients.shape[:-3])
    return direction.expand(*leading, -1)[..., None, None]


def first_direction(matrix: Tensor) -> Tensor:
    """Return the first right singular vector [..., D] of ``matrix`` [..., N, D], its components' sum at least 0.

    Where the sum is 0 within rounding, the largest component is positive. NaN where ``matrix`` is not finite.
    """
    finite = matrix.isfinite().all(-1).all(-1)
    safe = torch.where(finite[..., None, None], matrix, 0.0)
    vector: Tensor = torch.linalg.svd(safe, full_matrices=False).Vh[..., 0, :]
    total = vector.sum(-1)
    largest = vector.gather(-1, vector.abs().argmax(-1, keepdim=True)).squeeze(-1)
    rounding = torch.finfo(vector.dtype).eps * vector.shape[-1]
    turn = torch.where(total.abs() > rounding, total, largest).sign()
    return torch.where(finite, turn, torch.nan).unsqueeze(-1) * vector


METHOD = Method(
    name="eigen-cam",
    weights=eigen_cam,
    paper="Muhammad & Yeasin, Eigen-CAM: Class Activation Map using Principal Components, IJCNN 2020",
    gradient_free=True,
    per_class=False,
    usual=False,
)
