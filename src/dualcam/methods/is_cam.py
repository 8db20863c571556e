"""IS-CAM: Score-CAM averaged over the way from the empty to the masked image (Naidu et al., arXiv 2010.03023, 2020)."""

from collections.abc import Iterator

from torch import Tensor

from dualcam.methods import Method
from dualcam.methods.score_cam import increases
from dualcam.types import Evidence

STEPS = 10


def is_cam(evidence: Evidence) -> Tensor:
    """Return w_i = mean over n = 1..N of p_k(n/N x H_i) - p_k(0), [B, K, D, 1, 1]; see Score-CAM for H, p and 0.

    N = `samples` (10) forwards a channel. N = 1 is Score-CAM.
    """
    assert evidence.probes is not None
    steps = evidence.probes.tuning.samples or STEPS

    def on_the_way(images: Tensor, masks: Tensor) -> Iterator[Tensor]:
        masked = images * masks
        return (masked * (step / steps) for step in range(1, steps + 1))

    return increases(evidence, on_the_way)


METHOD = Method(
    name="is-cam",
    weights=is_cam,
    paper="Naidu et al., IS-CAM: Integrated Score-CAM for axiomatic-based explanations, arXiv 2010.03023, 2020",
    gradient_free=True,
    usual=False,
    needs=("image-scores",),
    reads=("top_k", "samples"),
)
