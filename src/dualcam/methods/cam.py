"""CAM: the class row of the linear head (Zhou et al., CVPR 2016, eq. 2)."""

from torch import Tensor

from dualcam.methods import Method
from dualcam.types import Evidence


def cam(evidence: Evidence) -> Tensor:
    """Return w_i = W_{k,i}, [..., D, 1, 1], in logits per unit of activation."""
    assert evidence.class_rows is not None
    return evidence.class_rows


METHOD = Method(
    name="cam",
    weights=cam,
    paper="Zhou et al., Learning Deep Features for Discriminative Localization, CVPR 2016",
    needs_rows=True,
    total="mean",
    homogeneous=True,
)
