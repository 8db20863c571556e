"""The randomization check: whether the map changes when the head's parameters are random.

Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018, section 3: a map that stays alike can not tell of what
the model has learned. Only the head is randomized here, the layers below keep what they know, so it asks less than
the paper's cascade. Similarity is Spearman's rank correlation, as there.
"""

from copy import deepcopy

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from dualcam.heads import Head
from dualcam.metrics.fidelity import FidelityMetric, Measured
from dualcam.metrics.fidelity_settings import FidelitySettings, Surgery
from dualcam.metrics.map_similarity import rank_correlations
from dualcam.metrics.order import average_ranks


def randomized_head(head: Head, surgery: Surgery, seed: int) -> Head:
    """Return a copy of ``head`` whose parameters are random; ``head`` stays as it is.

    "shuffle" permutes the entries of each parameter, so that their distribution stays; "redraw" draws them anew from
    a normal distribution of the parameter's mean and deviation.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.inference_mode(mode=False), torch.no_grad():
        copy = deepcopy(head)
        for parameter in copy.parameters():
            values = parameter.detach().cpu()
            if surgery == "shuffle":
                order = torch.randperm(values.numel(), generator=generator)
                drawn = values.flatten()[order].view(values.shape)
            else:
                noise = torch.randn(values.shape, generator=generator, dtype=torch.float64)
                drawn = values.double().mean() + values.double().std(correction=0) * noise
            parameter.copy_(drawn)
    return copy


def randomized_heads(head: Head, settings: FidelitySettings) -> tuple[Head, ...]:
    """Return ``settings.head_draws`` random copies of ``head``, of the seeds ``settings.seed``, + 1, ..."""
    return tuple(
        randomized_head(head, settings.head_surgery, settings.seed + draw) for draw in range(settings.head_draws)
    )


def similarity_after_randomization(heat: ArrayLike, redrawn: ArrayLike) -> float:
    """Return the mean over random heads of |rank correlation| of the map [H, W] and theirs [R, H, W].

    In [0, 1]; lower is better; a map turned upside down says no less than itself, hence the magnitude. 0 can not be
    expected even of unrelated maps, which are smooth: compare methods, not with 0. A constant map correlates with
    nothing, 0, unless both are constant: such a map has not changed, 1.
    """
    return _similarity(np.stack([average_ranks(each) for each in (heat, *np.asarray(redrawn))]))


def _similarity(ranks: NDArray[np.float64]) -> float:
    """Return the figure of ranks [1 + R, N] of the map and the others."""
    similar = np.abs(rank_correlations(ranks[0], ranks[1:]))
    constant = ranks.min(1) == ranks.max(1)
    return float(np.where(np.isnan(similar), constant[0] & constant[1:], similar).mean())


def _score(measured: Measured, settings: FidelitySettings) -> float:
    assert measured.ranks is not None
    return _similarity(measured.ranks)


FIDELITY = FidelityMetric(
    name="randomization",
    title="Randomization check",
    paper="Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018",
    unit="fraction",
    better="lower",
    low=0,
    high=1,
    score=_score,
    heads=randomized_heads,
    by_rank=True,
)
