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
    check_choice("normalize", how, ("max", "minmax", "ivr"))
    if how == "max":
        floor = np.float32(0)
    elif how == "minmax":
        floor = values.min()
    else:
        floor = np.float32(_percentile(values, percentile))
    lifted: NDArray[np.float32] = values - floor  # a copy, of which the map is made in place
    np.maximum(lifted, np.float32(0), out=lifted)
    top = lifted.max()
    if not top > 0 or not np.isfinite(top) or (how != "max" and values.max() == values.min()):
        return np.zeros_like(values)
    lifted /= top
    return lifted


def _percentile(values: NDArray[np.float32], percentile: float) -> float:
    """Return `numpy.percentile` in half of its time: only the histogram bin that holds it is sorted."""
    flat = values.ravel()
    low, high = float(flat.min()), float(flat.max())
    if not (np.isfinite(high - low) and high - low > 1e-30):
        return float(np.percentile(flat, percentile))
    bins = ((flat - np.float32(low)) * np.float32(255 / (high - low))).astype(np.uint8)
    cumulative = np.bincount(bins, minlength=256).cumsum()
    rank = percentile / 100 * (flat.size - 1)
    before, after = int(rank), min(int(rank) + 1, flat.size - 1)
    first, last = np.searchsorted(cumulative, (before, after), side="right")
    near = np.sort(flat[(bins >= first) & (bins <= last)])
    skipped = int(cumulative[first - 1]) if first else 0
    lower, upper = float(near[before - skipped]), float(near[after - skipped])
    return lower + (upper - lower) * (rank - before)
