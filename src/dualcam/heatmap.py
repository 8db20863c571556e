"""Weights and activations to a raw map; a raw map to values in [0, 1]."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dualcam.errors import check_choice
from dualcam.methods import Method
from dualcam.types import Evidence, Normalization, Sign

IVR_PERCENTILE = 35.0
SAMPLE = 1024
"""Values of a map that tell roughly where a percentile lies."""


def weight_parts(method: Method, evidence: Evidence) -> tuple[Tensor, ...]:
    """Return what the method's signed weights are the sum of: the weights, or f(g) and -f(-g) where it is rectified.

    The two stay apart until `combine`: where gradients of both signs share a channel, as under Grad-CAM++ with a head
    that is not linear, the channel speaks for the class and against it.
    """
    weights = method.weights(evidence)
    if not method.rectified:
        return (weights,)
    return weights, -method.weights(evidence.negated())


def combine(parts: Sequence[Tensor], activations: Tensor, sign: Sign, *, clamp_weights: bool) -> Tensor:
    """Return sum_i w_i F_i over channels, [..., h, w], after the sign policy; ``parts`` are from `weight_parts`.

    ``positive`` keeps evidence for the class, ``negative`` evidence against it, ``signed`` both (their sum). With
    ``clamp_weights`` the weights are clamped (the paper's rule, right where F >= 0), otherwise the contributions
    w_i F_i, cell by cell.
    """
    check_choice("sign", sign, ("positive", "signed", "negative"))
    if sign == "signed":
        return _weighted_sum(sum(parts[1:], start=parts[0]), activations)
    sums = []
    for weights in parts:
        kept = weights.clamp(min=0) if sign == "positive" else weights.clamp(max=0)
        if clamp_weights:
            sums.append(_weighted_sum(kept, activations))
        else:
            sums.append(_weighted_sum(kept, activations.clamp(min=0)))
            sums.append(_weighted_sum(weights - kept, activations.clamp(max=0)))
    return sum(sums[1:], start=sums[0])


def only_finite(signed: Tensor, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return both maps [B, K, h, w], zeros where one holds a number that is not finite, and where none does [B, K].

    The zeros are written into the maps given: a thousand classes' are not copied for the rare broken one.
    One such activation is enough, or one weight: both go into the map's sums, whatever the method.
    """
    finite = _all_finite(signed)
    if raw is not signed:
        finite &= _all_finite(raw)
    broken = ~finite[..., None, None]
    signed.masked_fill_(broken, 0)
    if raw is not signed:
        raw.masked_fill_(broken, 0)
    return signed, raw, finite


def _all_finite(maps: Tensor) -> Tensor:
    """Return where no number of a map [..., h, w] is NaN or infinite: its extremes tell, without a copy of the maps."""
    low, high = maps.flatten(-2).aminmax(dim=-1)
    return torch.isfinite(low) & torch.isfinite(high)


def _weighted_sum(weights: Tensor, activations: Tensor) -> Tensor:
    if weights.shape[-2:] != (1, 1):
        return (weights * activations).sum(-3)
    # One matrix product instead of a [..., D, h, w] intermediate: K classes cost no more than K rows.
    leading = np.broadcast_shapes(weights.shape[:-3], activations.shape[:-3])
    rows = weights.expand(*leading, *weights.shape[-3:]).flatten(-3)  # [B, K, D]
    cells = activations.flatten(-2).squeeze(-3)  # [B, D, h*w]
    sums = torch.matmul(rows, cells)
    return sums.reshape(*sums.shape[:-1], *activations.shape[-2:])


def normalize(
    values: NDArray[np.float32], how: Normalization, *, percentile: float = IVR_PERCENTILE
) -> NDArray[np.float32]:
    """Return a map in [0, 1].

    ``max``: relu(M) / max M. ``minmax``: (M - min) / (max - min). ``ivr``: z = max(M - percentile of M, 0), divided
    by max z (Kim et al., Normalization Matters in Weakly Supervised Object Localization, ICCV 2021). A map that has
    nothing to show (constant, or no positive value under ``max``) gives zeros.
    """
    return lifted(values, floor_of(values, how, percentile=percentile), values.max())


def lifted(values: NDArray[np.float32], floor: np.float32, high: np.float32) -> NDArray[np.float32]:
    """Return what of a map lies above ``floor``, relative to its highest value ``high``; zeros where nothing does."""
    top = high - floor
    if not top > 0 or not np.isfinite(top):
        return np.zeros_like(values)
    shown: NDArray[np.float32] = values - floor  # a copy, of which the map is made in place
    np.maximum(shown, np.float32(0), out=shown)
    shown /= top
    return shown


def floor_of(values: NDArray[np.float32], how: Normalization, *, percentile: float = IVR_PERCENTILE) -> np.float32:
    """Return the value that `normalize` takes to 0, as it does all values below it."""
    check_choice("normalize", how, ("max", "minmax", "ivr"))
    if how == "max":
        return np.float32(0)
    return values.min() if how == "minmax" else np.float32(_percentile(values, percentile))


def _percentile(values: NDArray[np.float32], percentile: float) -> float:
    """Return `numpy.percentile` in a quarter of its time: only values near it, as a sample has them, are sorted."""
    flat = values.ravel()
    if not np.isfinite(float(flat.max()) - float(flat.min())):
        return float(np.percentile(flat, percentile))
    rank = percentile / 100 * (flat.size - 1)
    before, after = int(rank), min(int(rank) + 1, flat.size - 1)
    sample = np.sort(flat[:: flat.size // SAMPLE + 1])
    place, reach = before * len(sample) // flat.size, len(sample) // 16 + 1
    low, high = sample[max(place - reach, 0)], sample[min(place + reach, len(sample) - 1)]
    near = np.sort(flat[(flat >= low) & (flat <= high)])
    skipped = int(np.count_nonzero(flat < low))
    if not skipped <= before <= after < skipped + len(near):
        near, skipped = np.sort(flat), 0
    lower, upper = float(near[before - skipped]), float(near[after - skipped])
    return lower + (upper - lower) * (rank - before)
