"""SS-CAM: Score-CAM averaged over noisy masks (Wang et al., arXiv 2006.14255, 2020, smoothing of the feature maps)."""

from collections.abc import Iterator

import torch
from torch import Tensor

from dualcam.methods import Method
from dualcam.methods.score_cam import increases
from dualcam.types import Evidence

SAMPLES, NOISE = 35, 2.0


def ss_cam(evidence: Evidence) -> Tensor:
    """Return w_i = mean over n of p_k(x (H_i + d_n)) - p_k(0), d_n ~ N(0, noise^2), [B, K, D, 1, 1]; see Score-CAM.

    `samples` (35, the paper's N) forwards a channel; `noise` (2, the paper's deviation). Every channel and image meets
    the same draws, so that weights differ by their masks alone.
    """
    assert evidence.probes is not None
    tuning = evidence.probes.tuning
    deviation = NOISE if tuning.noise is None else tuning.noise

    def noisy(images: Tensor, masks: Tensor) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(tuning.seed)
        draws = (
            torch.randn(masks.shape[-2:], generator=generator, dtype=torch.float64).to(masks)
            for _ in range(tuning.samples or SAMPLES)
        )
        return (images * (masks + deviation * draw) for draw in draws)

    return increases(evidence, noisy)


METHOD = Method(
    name="ss-cam",
    weights=ss_cam,
    paper="Wang et al., SS-CAM: Smoothed Score-CAM for Sharper Visual Feature Localization, arXiv 2006.14255, 2020",
    gradient_free=True,
    usual=False,
    needs=("image-scores",),
    reads=("top_k", "samples", "noise", "seed"),
)
