"""All fidelity metrics of one photo and one map, written anew from the papers, one photo at a time.

Nothing of `dualcam.metrics` is used but the settings: what there is vectorized, shared or solved by multigrid is a
loop, a list or a direct solver here. Everything is numpy in double precision.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from scipy.ndimage import correlate1d, gaussian_filter1d
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import spsolve

from dualcam.metrics.fidelity_settings import Baseline, FidelitySettings

Floats = NDArray[np.float64]


def naive_fidelity(
    x: Floats,
    heat: Floats,
    p: Callable[[Floats], float],
    draw: Callable[[Floats], Floats],
    redrawn: Sequence[Floats],
    truth: NDArray[np.bool_] | None,
    settings: FidelitySettings,
) -> dict[str, float]:
    """Return every metric of the map ``heat`` [H, W] of the photo ``x`` [3, H, W] in the space of the settings.

    ``p`` is the judge's probability of the explained class, ``draw`` the map of it by the same means as ``heat``, both
    of any photo; ``redrawn`` are the maps of ``x`` by random heads, ``truth`` is where the object is.
    """
    y, o = p(x), p(x * heat)
    drop = 100 * max(0.0, y - o) / y
    again = draw(x * heat)
    flat = np.ptp(heat) == 0 or np.ptp(again) == 0
    coherent = 0.0 if flat else 50 * (1 + stats.pearsonr(heat.ravel(), again.ravel())[0])
    cover = 100 * heat.mean()
    parts = [100 - drop, coherent, 100 - cover]
    size = float(np.linalg.norm(heat)) or 1.0
    sensitivity = max(float(np.linalg.norm(draw(x + noise) - heat)) / size for noise in noises(x, settings))
    return {
        "average-drop": drop,
        "increase": 100.0 if o > y else 0.0,
        "average-gain": 100 * max(0.0, o - y) / (1 - y),
        "insertion": area(p, baseline(x, settings.insertion_baseline, settings), x, heat, settings.steps),
        "deletion": area(p, x, baseline(x, settings.deletion_baseline, settings), heat, settings.steps),
        "road": road(p, x, heat, settings),
        "coherency": coherent,
        "complexity": cover,
        "adcc": float(stats.hmean(parts)) if min(parts) > 0 else 0.0,
        "energy-pointing": float("nan") if truth is None else 100 * heat[truth].sum() / (heat.sum() or 1.0),
        "sparseness": gini(heat.ravel().tolist()),
        "max-sensitivity": sensitivity,
        "randomization": float(np.mean([likeness(heat, other) for other in redrawn])),
    }


def by_heat(heat: Floats) -> list[int]:
    """The pixels, hottest first; of equals the first in reading order."""
    values = heat.ravel().tolist()
    return sorted(range(len(values)), key=lambda pixel: (-values[pixel], pixel))


def baseline(x: Floats, name: Baseline, settings: FidelitySettings) -> Floats:
    if name == "zero":
        return np.zeros_like(x)
    if name == "mean":
        return np.stack([np.full(channel.shape, channel.mean()) for channel in x])
    dirac = np.zeros(settings.blur_size)
    dirac[settings.blur_size // 2] = 1
    line = gaussian_filter1d(dirac, settings.blur_sigma, mode="reflect")
    return np.asarray(correlate1d(correlate1d(x, line, axis=1, mode="nearest"), line, axis=2, mode="nearest"))


def area(p: Callable[[Floats], float], start: Floats, end: Floats, heat: Floats, steps: int) -> float:
    order, now, curve = by_heat(heat), start.copy(), [p(start)]
    width = heat.shape[1]
    done = 0
    for step in range(1, steps + 1):
        until = round(len(order) * step / steps)
        for pixel in order[done:until]:
            now[:, pixel // width, pixel % width] = end[:, pixel // width, pixel % width]
        done = until
        curve.append(p(now.copy()))
    return float(np.trapezoid(curve, dx=1 / steps))


def road(p: Callable[[Floats], float], x: Floats, heat: Floats, settings: FidelitySettings) -> float:
    order = by_heat(heat)
    noise = settings.road_noise * drawn(torch.randn, x.shape, settings)
    differences = []
    for share in settings.road_percentages:
        count = min(round(len(order) * share / 100), len(order) - 1)
        scores = []
        for pixels in (order[len(order) - count :], order[:count]):
            removed = np.zeros(heat.size, np.bool_)
            removed[pixels] = True
            scores.append(p(impute(x, removed.reshape(heat.shape), noise)))
        differences.append((scores[0] - scores[1]) / 2)
    return float(np.mean(differences))


def impute(x: Floats, removed: NDArray[np.bool_], noise: Floats) -> Floats:
    filled = solve_directly(x.transpose(1, 2, 0), removed).transpose(2, 0, 1)
    return np.where(removed, filled + noise, x)


def solve_directly(photo: Floats, removed: NDArray[np.bool_]) -> Floats:
    """Fill ``removed`` pixels of [H, W, C]: each is the mean of its neighbors, sides twice as heavy as corners."""
    height, width = removed.shape
    unknowns = {tuple(pixel): number for number, pixel in enumerate(np.argwhere(removed).tolist())}
    rows, columns, entries = [], [], []
    right = np.zeros((len(unknowns), photo.shape[2]))
    for (y, x), number in unknowns.items():
        total = 0
        for v in range(max(y - 1, 0), min(y + 2, height)):
            for u in range(max(x - 1, 0), min(x + 2, width)):
                if (v, u) == (y, x):
                    continue
                weight = 2 if v == y or u == x else 1
                total += weight
                if (v, u) in unknowns:
                    rows.append(number)
                    columns.append(unknowns[v, u])
                    entries.append(-weight)
                else:
                    right[number] += weight * photo[v, u]
        rows.append(number)
        columns.append(number)
        entries.append(total)
    filled = photo.copy()
    if unknowns:
        system = csr_matrix((np.array(entries, float), (rows, columns)), shape=(len(unknowns), len(unknowns)))
        filled[removed] = spsolve(system, right).reshape(right.shape)
    return filled


def noises(x: Floats, settings: FidelitySettings) -> Floats:
    uniform = drawn(torch.rand, (settings.sensitivity_samples, *x.shape), settings)
    return settings.sensitivity_radius * (2 * uniform - 1)


def drawn(what: Callable[..., torch.Tensor], shape: tuple[int, ...], settings: FidelitySettings) -> Floats:
    generator = torch.Generator().manual_seed(settings.seed)
    return np.asarray(what(shape, generator=generator, dtype=torch.float64).numpy())


def gini(values: list[float]) -> float:
    """Half of the relative mean difference."""
    array = np.abs(values)
    return float(np.abs(array[:, None] - array).mean() / (2 * array.mean())) if array.any() else 0.0


def likeness(first: Floats, second: Floats) -> float:
    constant = [bool(np.ptp(each) == 0) for each in (first, second)]
    if any(constant):
        return float(all(constant))
    return abs(float(stats.spearmanr(first.ravel(), second.ravel())[0]))
