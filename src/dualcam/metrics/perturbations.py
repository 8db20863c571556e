"""Photos modified by a map: multiplied by it, or handed over to a baseline or a filling in the order of its pixels."""

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from dualcam.metrics.fidelity import Perturbation
from dualcam.metrics.fidelity_settings import Baseline, FidelitySettings


def whole_map(heat: Tensor) -> Tensor:
    """Return the map itself."""
    return heat


def descending_ranks(heat: Tensor) -> Tensor:
    """Return each pixel's place [H, W], int64, from the hottest (0) to the coldest; ties in reading order."""
    order = heat.flatten().argsort(descending=True, stable=True)
    ranks = torch.empty_like(order)
    ranks[order] = torch.arange(len(order), device=order.device)
    return ranks.reshape(heat.shape)


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


def _masked(photo: Tensor, heat: Tensor, settings: FidelitySettings) -> Tensor:
    return (photo * heat.to(photo)).unsqueeze(0)


def _inserted(photo: Tensor, ranks: Tensor, settings: FidelitySettings) -> Tensor:
    return _stepwise(baseline_photo(photo, settings.insertion_baseline, settings), photo, ranks, settings.steps)


def _deleted(photo: Tensor, ranks: Tensor, settings: FidelitySettings) -> Tensor:
    return _stepwise(photo, baseline_photo(photo, settings.deletion_baseline, settings), ranks, settings.steps)


def _stepwise(start: Tensor, end: Tensor, ranks: Tensor, steps: int) -> Tensor:
    """Return the photos between ``start`` and ``end``, both left out, [steps - 1, 3, H, W]."""
    counts = torch.tensor(step_counts(ranks.numel(), steps)[1:-1], device=ranks.device)
    return torch.where((ranks < counts[:, None, None]).unsqueeze(1), end, start)


def _noisy(photo: Tensor, view: Tensor, settings: FidelitySettings) -> Tensor:
    shape = (settings.sensitivity_samples, *photo.shape)
    noise = 2 * torch.rand(shape, generator=_seeded(settings), dtype=torch.float64) - 1
    return photo + (settings.sensitivity_radius * noise).to(photo)


def _without_most(photo: Tensor, ranks: Tensor, settings: FidelitySettings) -> Tensor:
    counts = torch.tensor(removed_counts(ranks.numel(), settings), device=ranks.device)
    return _imputed(photo, ranks < counts[:, None, None], settings)


def _without_least(photo: Tensor, ranks: Tensor, settings: FidelitySettings) -> Tensor:
    counts = torch.tensor(removed_counts(ranks.numel(), settings), device=ranks.device)
    return _imputed(photo, ranks >= ranks.numel() - counts[:, None, None], settings)


def removed_counts(pixels: int, settings: FidelitySettings) -> list[int]:
    """Return how many of ``pixels`` ROAD removes at each percentage; at least one is kept."""
    return [min(round(pixels * share / 100), pixels - 1) for share in settings.road_percentages]


def _imputed(photo: Tensor, removed: Tensor, settings: FidelitySettings) -> Tensor:
    from dualcam.metrics.imputation import fill_linearly

    noise = settings.road_noise * torch.randn(photo.shape, generator=_seeded(settings), dtype=torch.float64)
    filled = fill_linearly(photo.detach().cpu().double().numpy(), removed.cpu().numpy())
    return torch.where(removed.unsqueeze(1), (torch.from_numpy(filled) + noise).to(photo), photo)


def _seeded(settings: FidelitySettings) -> torch.Generator:
    return torch.Generator().manual_seed(settings.seed)


def _per_percentage(settings: FidelitySettings) -> int:
    return len(settings.road_percentages)


def _between(settings: FidelitySettings) -> int:
    return settings.steps - 1


def _one(settings: FidelitySettings) -> int:
    return 1


def _baseline(name: Baseline) -> Perturbation:
    def photos(photo: Tensor, view: Tensor, settings: FidelitySettings) -> Tensor:
        return baseline_photo(photo, name, settings).unsqueeze(0)

    return Perturbation(f"baseline-{name}", no_map, photos, _one)


MASKED = Perturbation("masked", whole_map, _masked, _one)
"""x * M, one photo."""

INSERTED = Perturbation("inserted", descending_ranks, _inserted, _between)
"""The hottest pixels put back into the baseline, step by step; the baseline and the photo are left out."""

DELETED = Perturbation("deleted", descending_ranks, _deleted, _between)
"""The hottest pixels replaced by the baseline, step by step; the photo and the baseline are left out."""

BASELINES: dict[Baseline, Perturbation] = {name: _baseline(name) for name in ("blur", "mean", "zero")}
"""The baseline alone, one photo for all maps."""

NOISY = Perturbation("noisy", no_map, _noisy, lambda settings: settings.sensitivity_samples)
"""The photo plus noise within the radius, the same for all maps."""

MOST_RELEVANT_IMPUTED = Perturbation("most-relevant-imputed", descending_ranks, _without_most, _per_percentage)
"""The hottest pixels filled from the others, one photo a percentage."""

LEAST_RELEVANT_IMPUTED = Perturbation("least-relevant-imputed", descending_ranks, _without_least, _per_percentage)
"""The coldest pixels filled from the others, one photo a percentage."""
