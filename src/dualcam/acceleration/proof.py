"""Whether two models say the same: logits and activations on seeded noise."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from dualcam.guards import evaluating
from dualcam.model import DualBranch

COARSE = 8


@dataclass(frozen=True)
class Answers:
    """What a model says about the probe: both branches' logits [2, B, C], and what the heads make them of.

    ``inputs``: the activations [B, D, h, w], and what the heads read, where that is something else.
    """

    logits: Tensor
    inputs: tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Difference:
    """The largest difference of two models' logits, in logits, and of what the heads read, by the largest of these.

    ``scale`` is the largest logit; below 1 it takes part in the verdict, so that small logits are not all alike.
    """

    logits: float
    activations: float
    scale: float

    def within(self, tolerance: float) -> bool:
        """Whether the logits differ by ``tolerance`` at most (by that share of the largest where that is below 1).

        A number that is not finite is a difference.
        """
        return self.logits <= tolerance * min(1.0, self.scale) and self.activations <= tolerance


def probe(model: DualBranch) -> Tensor:
    """Return four seeded images [4, 3, H, W] of the model's input size: noise, and noise as smooth as photos are."""
    generator = torch.Generator().manual_seed(0)
    height, width = model.preprocessing.size
    noise = torch.randn(2, 3, height, width, generator=generator)
    coarse = torch.randn(2, 3, max(1, height // COARSE), max(1, width // COARSE), generator=generator)
    smooth = functional.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)
    return torch.cat([noise, smooth]).to(model.device, model.dtype)


def answers(model: DualBranch, images: Tensor) -> Answers:
    """Return what ``model`` says about ``images``."""
    with evaluating(model), torch.no_grad():
        tapped = model.tap(images)
        read = model.sigmoid_head.input_of(tapped).detach()
        logits = torch.stack([tapped.logits, model.sigmoid_head(read)])
        return Answers(logits, (tapped.activations.detach().clone(), read.clone()))


def compare(ours: Answers, theirs: Answers) -> Difference:
    """Return how far ``ours`` are from ``theirs``."""
    shares = [
        (one - other).abs().max() / other.abs().max().clamp(min=torch.finfo(other.dtype).tiny)
        for one, other in zip(ours.inputs, theirs.inputs, strict=True)
    ]
    return Difference(
        logits=float((ours.logits - theirs.logits).abs().max()),
        activations=float(torch.stack(shares).max()),  # a NaN wins
        scale=float(theirs.logits.abs().max()),
    )
