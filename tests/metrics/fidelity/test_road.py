"""ROAD: its imputation, and the figure."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pytorch_grad_cam.metrics.road import NoisyLinearImputer, ROADCombined

from dualcam.metrics import fidelity
from dualcam.metrics.fidelity import Measured
from dualcam.metrics.fidelity.road import road
from dualcam.metrics.fidelity_settings import FidelitySettings
from dualcam.metrics.imputation import compiled, fill_linearly
from dualcam.metrics.perturbations import (
    LEAST_RELEVANT_IMPUTED,
    MOST_RELEVANT_IMPUTED,
    descending_ranks,
    removed_counts,
)
from tests.metrics.fidelity.game import Classifier, photos_and_maps
from tests.metrics.fidelity.naive import solve_directly

RIGHT = 2e-3
"""How far from the equations' solution a fill may be, as a share of the kept values' range."""
ITS_NUMPY = "ignore:__array_wrap__ must accept:DeprecationWarning"
"""pytorch-grad-cam hands tensors to numpy functions."""


def fill(photo: NDArray[np.floating], removed: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Fill one mask [H, W] of a photo [H, W, 3]."""
    return np.asarray(fill_linearly(photo.transpose(2, 0, 1), removed[None])[0].transpose(1, 2, 0))


def holes(height: int, width: int) -> dict[str, NDArray[np.bool_]]:
    generator = np.random.default_rng(5)
    y, x = np.mgrid[:height, :width]
    blob = (y - height / 2) ** 2 + (x - width / 3) ** 2
    return {
        "nothing": np.zeros((height, width), np.bool_),
        "blob": blob < (min(height, width) / 3) ** 2,
        "all but a blob": blob > (min(height, width) / 6) ** 2,
        "scattered": generator.random((height, width)) < 0.5,
        "almost all, scattered": generator.random((height, width)) < 0.97,
        "all but the last pixel": (y < height - 1) | (x < width - 1),
        "all but a border": y > 0,
        "chessboard": (y + x) % 2 == 0,
        "stripes": x % 3 > 0,
    }


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [(1, 7), (6, 2), (9, 16), (23, 32), (64, 47)])
def test_the_fill_solves_the_equations(size: tuple[int, int], dtype: type[np.floating]) -> None:
    photo = np.random.default_rng(1).random((*size, 3)).astype(dtype)
    kept = photo.copy()
    for name, removed in holes(*size).items():
        if removed.all():
            continue
        found = fill(photo, removed)
        assert found.dtype == dtype
        np.testing.assert_allclose(found, solve_directly(photo, removed), atol=RIGHT, err_msg=name)
        np.testing.assert_array_equal(found[~removed], photo[~removed])
        np.testing.assert_array_equal(photo, kept)


@pytest.mark.filterwarnings(ITS_NUMPY)
def test_the_fill_is_that_of_pytorch_grad_cam() -> None:
    photo = np.random.default_rng(2).random((40, 32, 3))
    for name, removed in holes(40, 32).items():
        if not removed.any():
            continue  # its sparse solver takes no empty system
        theirs = NoisyLinearImputer(noise=0)(
            torch.from_numpy(photo.transpose(2, 0, 1)).float(), torch.from_numpy(~removed).float()
        )
        np.testing.assert_allclose(fill(photo, removed).transpose(2, 0, 1), theirs, atol=RIGHT, err_msg=name)


def scenes(height: int, width: int) -> dict[str, NDArray[np.float64]]:
    """Return photos [h, w, 3] of range 1: smooth, textured, with edges, and mere noise."""
    generator = np.random.default_rng(6)
    y, x = np.mgrid[:height, :width]
    smooth = np.stack([np.sin(x / 20), np.cos(y / 15), np.sin((x + y) / 30)], -1)
    texture = smooth + 0.3 * generator.standard_normal((height, width, 3))
    edges = np.stack([(x // 9 + y // 13) % 2, x > y, (x - 40) ** 2 + (y - 30) ** 2 < 400], -1)
    noise = generator.random((height, width, 3))
    found = {"smooth": smooth, "texture": texture, "edges": edges, "noise": noise}
    return {name: (each - each.min()) / (each.max() - each.min()) for name, each in found.items()}


def orders(height: int, width: int) -> dict[str, NDArray[np.float64]]:
    """Return maps [h, w]: one enlarged from a few cells, the same cut off at its mean, and noise."""
    generator = np.random.default_rng(7)
    coarse = torch.from_numpy(generator.random((1, 1, 7, 7)))
    smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")[0, 0].numpy()
    return {
        "enlarged": smooth,
        "cut off": np.maximum(smooth - smooth.mean(), 0),
        "noise": generator.random((height, width)),
    }


@pytest.mark.parametrize("name", orders(2, 2))
def test_maps_holes_are_filled_right(name: str) -> None:
    """At all percentages, in both orders: the largest error stays in its bound, and most are far below."""
    size = (88, 75)
    ranks = descending_ranks(torch.from_numpy(orders(*size)[name])).numpy()
    counts = removed_counts(ranks.size, FidelitySettings())
    removed = np.stack([ranks < count for count in counts] + [ranks >= ranks.size - count for count in counts])
    photos = scenes(*size)
    stacked = np.concatenate([*photos.values()], -1)
    direct = np.stack([solve_directly(stacked, mask) for mask in removed])
    for number, (scene, photo) in enumerate(photos.items()):
        found = fill_linearly(photo.transpose(2, 0, 1), removed).transpose(0, 2, 3, 1)
        errors = np.abs(found - direct[..., 3 * number : 3 * number + 3]).max((1, 2, 3))
        assert errors.max() <= RIGHT, scene
        assert np.median(errors) <= RIGHT / 2, scene


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.99))
def test_the_fill_keeps_to_the_kept_values(seed: int, share: float) -> None:
    generator = np.random.default_rng(seed)
    photo = generator.random((11, 13, 3)) * 4 - 2
    removed = generator.random((11, 13)) < share
    if removed.all():
        removed[3, 4] = False
    filled = fill(photo, removed)
    low, high = photo[~removed].min(0), photo[~removed].max(0)
    spread = (high - low).max() + 1e-3  # single precision's, where there is one kept pixel
    assert (filled >= low - RIGHT * spread).all()
    assert (filled <= high + RIGHT * spread).all()
    flat = fill(np.full_like(photo, 0.7), removed)
    np.testing.assert_allclose(flat, 0.7, atol=1e-6)
    moved = fill(3 * photo + 1, removed)
    np.testing.assert_allclose(moved, 3 * filled + 1, atol=3 * RIGHT * spread)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.95))
def test_the_solver_converges_to_the_solution(seed: int, share: float) -> None:
    """As far as single precision goes; what `fill_linearly` leaves is its tolerance, not a flaw of the solver."""
    generator = np.random.default_rng(seed)
    photo = generator.random((3, 21, 26)).astype(np.float32)
    removed = generator.random((21, 26)) < share
    found, cycles = compiled()(photo, removed[None], np.zeros_like(photo), 1e-5, 40)
    assert cycles < 20
    direct = solve_directly(photo.transpose(1, 2, 0).astype(np.float64), removed).transpose(2, 0, 1)
    np.testing.assert_allclose(found[0], direct, atol=2e-5)


def test_masks_together_are_masks_alone() -> None:
    photo = np.random.default_rng(4).random((3, 23, 32))
    masks = np.stack([each for each in holes(23, 32).values() if not each.all()])
    together = fill_linearly(photo, masks)
    for one, mask in zip(together, masks, strict=True):
        np.testing.assert_array_equal(one, fill_linearly(photo, mask[None])[0])


def test_a_large_hole_takes_few_cycles() -> None:
    y, x = np.mgrid[:224, :224]
    photo = np.stack([np.sin(x / 20), np.cos(y / 15), (x * y) / 224**2]).astype(np.float32)
    blob = (y - 90) ** 2 + (x - 120) ** 2
    for removed in (blob < 100**2, blob > 30**2, blob > 3, (y > 0) | (x > 0)):
        filled, cycles = compiled()(photo, removed[None], np.zeros_like(photo), 1e-5, 40)
        assert cycles <= 16
        np.testing.assert_allclose(fill_linearly(photo, removed[None]), filled, atol=2 * RIGHT)  # of a range of 2


def test_noise_is_added_to_what_is_filled() -> None:
    generator = np.random.default_rng(8)
    photo, noise = generator.random((2, 3, 20, 30)).astype(np.float32)
    removed = generator.random((2, 20, 30)) < 0.4
    plain, noisy = fill_linearly(photo, removed), fill_linearly(photo, removed, noise)
    np.testing.assert_allclose(noisy, plain + removed[:, None] * noise, atol=1e-6)


def test_threads_fill_as_one_does() -> None:
    generator = np.random.default_rng(9)
    photos = generator.random((8, 3, 40, 50)).astype(np.float32)
    removed = generator.random((3, 40, 50)) < 0.6
    alone = [fill_linearly(photo, removed) for photo in photos]
    with ThreadPoolExecutor(4) as pool:
        for one, other in zip(alone, pool.map(lambda photo: fill_linearly(photo, removed), photos), strict=True):
            np.testing.assert_array_equal(one, other)


def test_what_can_not_be_filled_is_refused() -> None:
    with pytest.raises(ValueError, match="all pixels"):
        fill_linearly(np.zeros((3, 3, 4)), np.ones((1, 3, 4), np.bool_))
    for wrong in ((1, 4, 3), (3, 4)):
        with pytest.raises(ValueError, match=r"\(3, 3, 4\)"):
            fill_linearly(np.zeros((3, 3, 4)), np.ones(wrong, np.bool_))


@pytest.mark.parametrize("levels", [1000, 4, 1])
def test_which_pixels_are_filled(levels: int) -> None:
    photos, maps = photos_and_maps(1)
    photo, heat = photos[0], maps[0].mul(levels).round() / levels
    if levels == 1:
        heat = heat * 0
    choices = FidelitySettings(road_percentages=(1, 30, 50, 99.9))
    assert removed_counts(80, choices) == [1, 24, 40, 79]
    ranks = descending_ranks(heat)
    most, least = MOST_RELEVANT_IMPUTED(photo, heat, choices), LEAST_RELEVANT_IMPUTED(photo, heat, choices)
    for position, count in enumerate(removed_counts(80, choices)):
        np.testing.assert_array_equal((most[position] != photo).all(0), ranks < count)
        np.testing.assert_array_equal((least[position] != photo).all(0), ranks >= 80 - count)


def test_the_noise_is_seeded_and_of_its_size() -> None:
    photos, maps = photos_and_maps(1, (60, 60))
    settings_ = [FidelitySettings(road_percentages=(90,), seed=seed, road_noise=0.1) for seed in (0, 0, 1)]
    first, again, other = (MOST_RELEVANT_IMPUTED(photos[0], maps[0], each) for each in settings_)
    plain = MOST_RELEVANT_IMPUTED(photos[0], maps[0], FidelitySettings(road_percentages=(90,), road_noise=0))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    noise = (first - plain)[:, :, descending_ranks(maps[0]) < 3240]
    assert abs(float(noise.std()) - 0.1) < 0.005
    assert abs(float(noise.mean())) < 0.005


@pytest.mark.filterwarnings(ITS_NUMPY)
def test_the_figure_is_that_of_pytorch_grad_cam() -> None:
    """Up to the noise, and to which pixels are removed: theirs go by percentiles, and remove all of a tie."""
    size = (10, 10)
    photos, maps = photos_and_maps(3, size)
    model = Classifier(size)
    percentages = (10, 30, 50, 70, 90)
    choices = FidelitySettings(road_percentages=percentages, road_noise=0)
    theirs = ROADCombined(list(percentages))
    for averager in (theirs.morf_averager, theirs.lerf_averager):
        made = averager.imputer

        def quiet(percentile: float, made: type = made) -> object:
            metric = made(percentile)
            metric.perturbation.imputer.noise = 0
            return metric

        averager.imputer = quiet
    targets = [lambda output: output.softmax(-1)[1]] * 3
    expected = theirs(photos.float(), maps.numpy(), targets, model)
    metric = fidelity.get("road")
    for photo, heat, value in zip(photos, maps, expected, strict=True):
        answers = {
            each: model.probabilities(each(photo, heat, choices), 1).numpy() for each in metric.perturbations(choices)
        }
        found = metric.score(Measured(heat.numpy().astype(np.float32), probabilities=answers), choices)
        assert found == pytest.approx(value, abs=1e-4)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=9))
def test_the_figure_is_in_its_range(pairs: list[tuple[float, float]]) -> None:
    least, most = np.array(pairs).T
    found = float(road(least, most))
    assert -0.5 <= found <= 0.5
    assert found == pytest.approx(-float(road(most, least)))
    assert found == pytest.approx(sum(a - b for a, b in pairs) / len(pairs) / 2)
