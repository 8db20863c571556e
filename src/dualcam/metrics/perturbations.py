"""Photos modified by a map: multiplied by it, or handed over to a baseline or a filling in the order of its pixels."""

from functools import cache, lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dualcam.metrics.fidelity import Maker, Perturbation
from dualcam.metrics.fidelity_settings import Baseline, FidelitySettings
from dualcam.metrics.order import rising_order


def whole_map(heat: Tensor) -> Tensor:
    """Return the map itself."""
    return heat


def descending_ranks(heat: Tensor) -> Tensor:
    """Return each pixel's place [H, W], int32, from the hottest (0) to the coldest; ties in reading order."""
    order = rising_order(-heat.detach().cpu().numpy().ravel())
    ranks = np.empty(len(order), np.int32)
    ranks[order] = np.arange(len(order), dtype=np.int32)
    return torch.from_numpy(ranks).to(heat.device).reshape(heat.shape)


def no_map(heat: Tensor) -> Tensor:
    """Return an empty tensor: the photos are the same for every map."""
    return heat.new_empty(0)


def step_counts(pixels: int, steps: int) -> list[int]:
    """Return how many of ``pixels`` are handed over after each of 0..``steps``: equal shares, rounded half to even."""
    return [round(pixels * step / steps) for step in range(steps + 1)]


def blurred(photo: Tensor, size: int, sigma: float) -> Tensor:
    """Return ``photo`` [3, H, W] under RISE's blur of ``size`` pixels.

    Its kernel is a Gaussian whose tails are folded back into the ``size`` pixels, hence flatter than the Gaussian. RISE
    has zeros beyond the border; here the border goes on, so that a photo blurred before normalization and one blurred
    after it are the same.
    """
    line, reach = _folded_gaussian(size, sigma).to(photo), size // 2
    padded = functional.pad(photo.unsqueeze(1), (reach, reach, reach, reach), mode="replicate")
    return functional.conv2d(functional.conv2d(padded, line.view(1, 1, -1, 1)), line.view(1, 1, 1, -1)).squeeze(1)


@cache
def _folded_gaussian(size: int, sigma: float) -> Tensor:
    reach = int(4 * sigma + 0.5)
    distance = torch.arange(-reach, reach + 1)
    weights = torch.exp(-(distance.double() ** 2) / (2 * sigma**2))
    place = (size // 2 + distance) % (2 * size)
    place = torch.where(place < size, place, 2 * size - 1 - place)
    return torch.zeros(size, dtype=torch.float64).index_add_(0, place, weights / weights.sum())


def baseline_photo(photo: Tensor, baseline: Baseline, settings: FidelitySettings) -> Tensor:
    """Return what stands for a removed photo [3, H, W]: it blurred, its mean color, or zeros of the space."""
    if baseline == "blur":
        return blurred(photo, settings.blur_size, settings.blur_sigma)
    if baseline == "mean":
        return photo.mean((1, 2), keepdim=True).expand_as(photo).clone()
    return torch.zeros_like(photo)


def _masked(photo: Tensor, settings: FidelitySettings) -> Maker:
    return lambda heat: photo * heat.to(photo)


def _inserted(photo: Tensor, settings: FidelitySettings) -> Maker:
    baseline = baseline_photo(photo, settings.insertion_baseline, settings)
    return lambda hottest: torch.where(hottest, photo, baseline)


def _deleted(photo: Tensor, settings: FidelitySettings) -> Maker:
    baseline = baseline_photo(photo, settings.deletion_baseline, settings)
    return lambda hottest: torch.where(hottest, baseline, photo)


def _hottest(ranks: Tensor, settings: FidelitySettings) -> Tensor:
    """Return the pixels handed over after each step but none and all, [steps - 1, H, W]."""
    counts = torch.tensor(step_counts(ranks.numel(), settings.steps)[1:-1]).to(ranks)
    return ranks < counts[:, None, None]


def _noisy(photo: Tensor, settings: FidelitySettings) -> Maker:
    noise = _noise(tuple(photo.shape), photo.dtype, settings).to(photo.device)
    return lambda sample: photo + noise[sample]


@lru_cache(maxsize=1)
def _noise(shape: tuple[int, ...], dtype: torch.dtype, settings: FidelitySettings) -> Tensor:
    """Return the samples [S, 3, H, W] of uniform noise, which all photos share."""
    uniform = torch.rand((settings.sensitivity_samples, *shape), generator=_seeded(settings), dtype=torch.float64)
    return (settings.sensitivity_radius * (2 * uniform - 1)).to(dtype)


def _samples(view: Tensor, settings: FidelitySettings) -> Tensor:
    return torch.arange(settings.sensitivity_samples)


def _imputed(photo: Tensor, settings: FidelitySettings) -> Maker:
    from dualcam.metrics.imputation import fill_linearly

    draws = torch.randn(photo.shape, generator=_seeded(settings), dtype=torch.float64)
    noise = (settings.road_noise * draws).float().numpy()
    values = photo.detach().cpu()
    exact = (values if values.dtype == torch.float32 else values.double()).numpy()

    def make(removed: Tensor) -> Tensor:
        return torch.from_numpy(fill_linearly(exact, removed.unsqueeze(0).cpu().numpy(), noise)[0]).to(photo)

    return make


def _most_relevant(ranks: Tensor, settings: FidelitySettings) -> Tensor:
    counts = torch.tensor(removed_counts(ranks.numel(), settings)).to(ranks)
    return ranks < counts[:, None, None]


def _least_relevant(ranks: Tensor, settings: FidelitySettings) -> Tensor:
    counts = torch.tensor(removed_counts(ranks.numel(), settings)).to(ranks)
    return ranks >= ranks.numel() - counts[:, None, None]


def removed_counts(pixels: int, settings: FidelitySettings) -> list[int]:
    """Return how many of ``pixels`` ROAD removes at each percentage; at least one is kept."""
    return [min(round(pixels * share / 100), pixels - 1) for share in settings.road_percentages]


def _seeded(settings: FidelitySettings) -> torch.Generator:
    return torch.Generator().manual_seed(settings.seed)


def _per_percentage(settings: FidelitySettings) -> int:
    return len(settings.road_percentages)


def _between(settings: FidelitySettings) -> int:
    return settings.steps - 1


def _one(settings: FidelitySettings) -> int:
    return 1


def _baseline(name: Baseline) -> Perturbation:
    def make(photo: Tensor, settings: FidelitySettings) -> Maker:
        return lambda view: baseline_photo(photo, name, settings)

    return Perturbation(f"baseline-{name}", no_map, make, _one)


MASKED = Perturbation("masked", whole_map, _masked, _one)
"""x * M, one photo."""

INSERTED = Perturbation("inserted", descending_ranks, _inserted, _between, _hottest)
"""The hottest pixels put back into the baseline, step by step; the baseline and the photo are left out."""

DELETED = Perturbation("deleted", descending_ranks, _deleted, _between, _hottest)
"""The hottest pixels replaced by the baseline, step by step; the photo and the baseline are left out."""

BASELINES: dict[Baseline, Perturbation] = {name: _baseline(name) for name in ("blur", "mean", "zero")}
"""The baseline alone, one photo for all maps."""

NOISY = Perturbation("noisy", no_map, _noisy, lambda settings: settings.sensitivity_samples, _samples)
"""The photo plus noise within the radius, the same for all maps."""

MOST_RELEVANT_IMPUTED = Perturbation(
    "most-relevant-imputed", descending_ranks, _imputed, _per_percentage, _most_relevant
)
"""The hottest pixels filled from the others, one photo a percentage."""

LEAST_RELEVANT_IMPUTED = Perturbation(
    "least-relevant-imputed", descending_ranks, _imputed, _per_percentage, _least_relevant
)
"""The coldest pixels filled from the others, one photo a percentage."""
