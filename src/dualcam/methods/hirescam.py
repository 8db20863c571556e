"""HiResCAM: the gradient of every cell, not rectified (Draelos & Carin, arXiv 2011.08891, eq. 3)."""

from torch import Tensor

from dualcam.methods import Method
from dualcam.types import Evidence


def hirescam(evidence: Evidence) -> Tensor:
    """Return w_i = g_i per cell, broadcastable to [..., D, h, w].

    Its three signs are LayerCAM's: relu(g) - relu(-g) = g, and where a weight is kept or dropped cell by cell it makes
    no difference whether that happens to g or to its rectified parts.
    """
    return evidence.gradients


METHOD = Method(
    name="hirescam",
    weights=hirescam,
    paper="Draelos & Carin, Use HiResCAM instead of Grad-CAM for Faithful Explanations of CNNs, arXiv 2011.08891, 2020",
    total="sum",
    homogeneous=True,
    usual=False,
)
