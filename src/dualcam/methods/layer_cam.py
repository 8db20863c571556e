"""LayerCAM: positive gradients cell by cell (Jiang et al., TIP 2021, eq. 4)."""

from torch import Tensor

from dualcam.methods import Method
from dualcam.types import Evidence


def layer_cam(evidence: Evidence) -> Tensor:
    """Return w_i = relu(g_i) per cell, broadcastable to [..., D, h, w]. Its signed map is HiResCAM's."""
    return evidence.gradients.clamp(min=0)


METHOD = Method(
    name="layer-cam",
    weights=layer_cam,
    paper="Jiang et al., LayerCAM: Exploring Hierarchical Class Activation Maps for Localization, TIP 2021",
    rectified=True,
    total="sum",
    homogeneous=True,
)
