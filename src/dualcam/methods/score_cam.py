"""Score-CAM: what a channel's mask alone adds to the class's probability (Wang et al., CVPR Workshops 2020, eq. 5)."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.nn import functional

from dualcam.allocation import is_freed_memory_kept
from dualcam.methods import Method
from dualcam.types import Evidence

CHUNK, CHUNK_ON_CPU, CHUNK_IN_KEPT_MEMORY = 32, 6, 16
"""Masked images, of all images together, that the model sees at once.

On a CPU the widest layers of small networks at 224 x 224 pixels just stay below 32 MiB then. Larger ones are mapped
anew for every layer where the process keeps no freed memory, which doubles the time of MobileNetV2; one that does keep
it, as the command does, is fastest with more.
"""


def score_cam(evidence: Evidence) -> Tensor:
    """Return w_i = p_k(x H_i) - p_k(0), [B, K, D, 1, 1], a difference of probabilities (or of another score asked for).

    H_i is channel i, resized to the image and brought to [0, 1]; 0 is the image without anything, after preprocessing.
    A channel that is the same in every cell masks nothing and has no weight. Positive is the paper's map up to its
    softmax over channels, which would leave no sign; `top_k` keeps the channels that vary most over the cells.
    """
    return increases(evidence, lambda images, masks: [images * masks])


def images_at_once(device: torch.device) -> int:
    """Return how many masked images the model sees at once on ``device``."""
    if device.type != "cpu":
        return CHUNK
    return CHUNK_IN_KEPT_MEMORY if is_freed_memory_kept() else CHUNK_ON_CPU


def increases(evidence: Evidence, variants: Callable[[Tensor, Tensor], Iterable[Tensor]]) -> Tensor:
    """Return by how much the mean score of a channel's ``variants`` exceeds the empty image's, [B, K, D, 1, 1].

    ``variants`` maps images [B, 1, 3, H, W] and masks [B, n, 1, H, W] in [0, 1] to changed images [B, n, 3, H, W].
    """
    activations, probes = evidence.activations.squeeze(1), evidence.probes
    assert probes is not None
    assert probes.image_scores is not None
    images = probes.images.unsqueeze(1)
    empty = probes.image_scores(torch.zeros_like(images))
    found = empty.new_zeros(*activations.shape[:2], empty.shape[2])
    step = max(1, images_at_once(activations.device) // len(activations))
    for channels in torch.split(varying_channels(activations, probes.tuning.top_k), step, 1):
        chosen = activations.gather(1, channels[..., None, None].expand(-1, -1, *activations.shape[2:]))
        masks = unit_masks(chosen, (images.shape[-2], images.shape[-1])).to(images.dtype)
        scores = [probes.image_scores(changed) for changed in variants(images, masks.unsqueeze(2))]
        gain = torch.stack(scores).mean(0) - empty
        gain = torch.where(masks.amax((2, 3)).unsqueeze(2) > 0, gain, 0.0)
        found.scatter_(1, channels.unsqueeze(2).expand_as(gain), gain)
    return found.transpose(1, 2)[..., None, None]


def varying_channels(activations: Tensor, top_k: int | None) -> Tensor:
    """Return the channels [B, n] of ``activations`` [B, D, h, w] that vary most over the cells; all without `top_k`."""
    count = min(top_k or activations.shape[1], activations.shape[1])
    spread = activations.flatten(2).std(2, correction=0)
    return spread.topk(count, dim=1).indices


def unit_masks(channels: Tensor, size: tuple[int, int]) -> Tensor:
    """Return ``channels`` [B, n, h, w] resized to ``size``, each from 0 to 1; zeros where it is constant."""
    large = functional.interpolate(channels, size, mode="bilinear", align_corners=False)
    low, high = large.flatten(2).aminmax(dim=2)
    span = high - low
    return large.sub_(low[..., None, None]).div_(span.masked_fill(span == 0, torch.inf)[..., None, None])


METHOD = Method(
    name="score-cam",
    weights=score_cam,
    paper="Wang et al., Score-CAM: Score-Weighted Visual Explanations for CNNs, CVPR Workshops 2020",
    gradient_free=True,
    usual=False,
    needs=("image-scores",),
    reads=("top_k",),
)
