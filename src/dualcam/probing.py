"""Answers to what expensive methods ask of the model: scores of changed images and activations, gradients under noise.

Nothing is made that the method does not declare as its need, so all other methods pay nothing.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from dualcam.guards import evaluating
from dualcam.methods import Method
from dualcam.model import DualBranch
from dualcam.targets import score_values
from dualcam.tuning import Tuning
from dualcam.types import Branch, Moments, Probes, Score

LINEAR_SCORES: frozenset[Score] = frozenset({"logit", "centered"})
SMOOTH_SAMPLES, SMOOTH_NOISE = 8, 0.1


def make_probes(
    model: DualBranch,
    images: Tensor,
    index: Tensor,
    method: Method,
    branch: Branch,
    score: Score,
    tuning: Tuning,
    gradients: Tensor,
    gradients_at: Callable[[Tensor], Tensor],
) -> Probes:
    """Return the answers that ``method`` needs for ``images`` [B, 3, H, W] and the classes ``index`` [B, K].

    ``gradients`` are those of the images, ``gradients_at`` maps others to theirs; both broadcast to [B, K, D, h, w].
    """
    head = model.head(branch)
    linear = head.is_linear and score in LINEAR_SCORES

    def explained(logits: Tensor, score: Score) -> Tensor:
        """Return [B, N, K] of ``logits`` [B * N, C], N being what came for each image."""
        values = score_values(logits if logits.dtype == torch.float64 else logits.float(), score, tuning)
        values = values.reshape(len(index), -1, values.shape[1])
        return values.gather(2, index.unsqueeze(1).expand(-1, values.shape[1], -1))

    def image_scores(changed: Tensor) -> Tensor:
        with torch.no_grad(), evaluating(model):
            logits = model(changed.to(images.dtype).flatten(0, 1))
        return explained(logits.sigmoid if branch == "sigmoid" else logits.softmax, _comparable(score))

    def activation_scores(changed: Tensor) -> Tensor:
        owners = images.repeat_interleave(changed.shape[1], 0) if head.reads_features else images
        with torch.no_grad(), evaluating(model, head):
            return explained(model.logits_at(head, owners, changed.to(model.dtype).flatten(0, 1)), score)

    moments = None
    if "moments" in method.needs:
        moments = powers(gradients) if linear else noisy_moments(images, tuning, gradients_at)
    return Probes(
        images,
        linear,
        tuning,
        image_scores if "image-scores" in method.needs else None,
        activation_scores if "activation-scores" in method.needs else None,
        moments,
    )


def noisy_moments(images: Tensor, tuning: Tuning, gradients_at: Callable[[Tensor], Tensor]) -> Moments:
    """Return the means of g, g^2, g^3 over noisy copies of ``images``.

    The noise's deviation is a share of each image's range (Smilkov et al., SmoothGrad, 2017); its draws are the same
    for all images, so a batch is its single images.
    """
    samples = tuning.samples or SMOOTH_SAMPLES
    share = SMOOTH_NOISE if tuning.noise is None else tuning.noise
    deviation = share * (images.amax((1, 2, 3), keepdim=True) - images.amin((1, 2, 3), keepdim=True))
    generator = torch.Generator().manual_seed(tuning.seed)
    total: Moments | None = None
    for _ in range(samples):
        noise = torch.randn(images.shape[1:], generator=generator, dtype=torch.float64)
        found = powers(gradients_at(images + deviation * noise.to(images)))
        total = found if total is None else Moments(*(one + other for one, other in zip(total, found, strict=True)))
    assert total is not None
    return Moments(*(power / samples for power in total))


def powers(gradients: Tensor) -> Moments:
    """Return g, g^2 and g^3, in double precision where the device has it: cubes of small gradients underflow."""
    exact = gradients if gradients.device.type == "mps" else gradients.double()
    return Moments(exact, exact**2, exact**3)


def _comparable(score: Score) -> Score:
    return "probability" if score == "logit" else score
