"""LeGrad: how the class's score moves with what the blocks attend to (Bousselham et al., ICCV 2025, sec. 3)."""

from torch import Tensor

from dualcam.methods import Method
from dualcam.types import Evidence


def legrad(evidence: Evidence) -> Tensor:
    """Return the map itself, [B, K, 1, h, w]: the mean over blocks, heads and queries of relu(ds_l / dA_l).

    A_l are block l's probabilities of attention, s_l is the score that the model's last layers give the output of
    block l; class and register tokens are left out of what is attended to. Activations do not enter: F is 1. The signed
    map is the mean gradient without its rectifier; its values are no logits.
    """
    probes = evidence.probes
    assert probes is not None
    assert probes.attention is not None
    return probes.attention.favor.unsqueeze(2)


METHOD = Method(
    name="legrad",
    weights=legrad,
    paper="Bousselham et al., LeGrad: An Explainability Method for Vision Transformers via Feature Formation "
    "Sensitivity, ICCV 2025",
    rectified=True,
    usual=False,
    needs=("attention",),
    reads=("blocks",),
)
