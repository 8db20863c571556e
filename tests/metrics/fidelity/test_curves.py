"""Insertion and deletion."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torchcam.metrics import DeletionInsertionMetric

from dualcam.metrics import fidelity
from dualcam.metrics.curve import area_under_steps
from dualcam.metrics.fidelity import Measured
from dualcam.metrics.fidelity_settings import Baseline, FidelitySettings
from dualcam.metrics.perturbations import BASELINES, DELETED, INSERTED, blurred, descending_ranks, step_counts
from tests.metrics.fidelity.game import Classifier, GivenMaps, photos_and_maps


def measured(model: Classifier, photo: Tensor, heat: Tensor, k: int, choices: FidelitySettings) -> dict[str, float]:
    found = {}
    for name in ("insertion", "deletion"):
        metric = fidelity.get(name)
        answers = {
            each: model.probabilities(each(photo, heat, choices), k).numpy() for each in metric.perturbations(choices)
        }
        known = Measured(heat.numpy().astype(np.float32), float(model.probabilities(photo[None], k)), answers)
        found[name] = metric.score(known, choices)
    return found


def test_the_area() -> None:
    generator = np.random.default_rng(0)
    for points in (2, 3, 21):
        curves = generator.random((4, points))
        expected = np.trapezoid(curves, dx=1 / (points - 1), axis=-1)
        np.testing.assert_allclose(area_under_steps(curves), expected, rtol=1e-12)
        assert area_under_steps(np.ones(points)) == 1
        assert area_under_steps(np.zeros(points)) == 0


def rise(model: Classifier, photo: Tensor, heat: Tensor, k: int, start: Tensor, end: Tensor, steps: int) -> float:
    """Algorithm 1 of the paper, pixel by pixel: pixels of ``end`` take the place of ``start``'s, the hottest first."""
    order = np.argsort(-heat.numpy().ravel(), kind="stable")
    now = start.clone().flatten(1)
    share = [0.0]
    scores = [float(model.probabilities(now.reshape(1, *photo.shape), k))]
    for part in np.array_split(order, steps):
        now[:, torch.from_numpy(part)] = end.flatten(1)[:, torch.from_numpy(part)]
        share.append(share[-1] + 1 / steps)
        scores.append(float(model.probabilities(now.reshape(1, *photo.shape), k)))
    return float(np.trapezoid(scores, share))


@pytest.mark.parametrize("steps", [1, 4, 80])
@pytest.mark.parametrize(("into", "out_of"), [("blur", "mean"), ("zero", "zero"), ("mean", "blur")])
def test_as_in_the_paper_step_by_step(steps: int, into: Baseline, out_of: Baseline) -> None:
    choices = FidelitySettings(steps=steps, insertion_baseline=into, deletion_baseline=out_of, blur_size=5)
    model = Classifier((8, 10))
    photos, maps = photos_and_maps(3)
    maps[1] = maps[1].mul(4).round() / 4  # ties
    maps[2] = 0.0
    for photo, heat in zip(photos, maps, strict=True):
        baselines = {name: BASELINES[name](photo, heat, choices)[0] for name in (into, out_of)}
        found = measured(model, photo, heat, 2, choices)
        assert found["insertion"] == pytest.approx(
            rise(model, photo, heat, 2, baselines[into], photo, steps), rel=1e-10
        )
        assert found["deletion"] == pytest.approx(
            rise(model, photo, heat, 2, photo, baselines[out_of], steps), rel=1e-10
        )


def test_as_torchcam_has_them() -> None:
    choices = FidelitySettings(steps=8, insertion_baseline="zero", deletion_baseline="zero")
    photos, maps = photos_and_maps(6)
    maps[1] = maps[1].mul(4).round() / 4
    maps[2] = 0.5
    maps[3] = 0.0
    model = Classifier((8, 10))
    theirs = DeletionInsertionMetric(GivenMaps(model, maps), partial(torch.softmax, dim=-1), steps=8)
    theirs.update(photos)
    summary = theirs.summary()
    classes = model(photos).argmax(1).tolist()
    found = [measured(model, *each, choices) for each in zip(photos, maps, classes, strict=True)]
    for name in ("insertion", "deletion"):
        assert np.mean([each[name] for each in found]) == pytest.approx(summary[f"{name}_auc"], rel=1e-5)


def test_steps_are_even_where_they_do_not_divide_the_pixels() -> None:
    """torchcam's last step is shorter instead, and may leave fewer steps than were asked for."""
    for pixels, steps in ((80, 7), (50176, 20), (10, 20), (1, 1)):
        counts = step_counts(pixels, steps)
        assert len(counts) == steps + 1
        assert (counts[0], counts[-1]) == (0, pixels)
        assert max(abs(count - pixels * step / steps) for step, count in enumerate(counts)) <= 0.5


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 5), min_size=12, max_size=12))
def test_the_hottest_come_first_and_ties_in_reading_order(levels: list[int]) -> None:
    heat = torch.tensor(levels).float().reshape(3, 4) / 5
    ranks = descending_ranks(heat).flatten().tolist()
    assert sorted(ranks) == list(range(12))
    expected = sorted(range(12), key=lambda pixel: (-levels[pixel], pixel))
    assert sorted(range(12), key=ranks.__getitem__) == expected


def test_only_the_order_matters() -> None:
    photos, maps = photos_and_maps(1)
    choices = FidelitySettings(steps=9)
    heat = maps[0].mul(6).round() / 6
    for other in (heat**3, heat / 7 + 0.5, (heat * 5).exp() / 200):
        for perturbation in (INSERTED, DELETED):
            assert torch.equal(perturbation(photos[0], heat, choices), perturbation(photos[0], other, choices))
    constant = torch.ones(8, 10)
    assert torch.equal(descending_ranks(constant).flatten(), torch.arange(80))
    assert torch.equal(descending_ranks(constant * 0), descending_ranks(constant))


def test_steps_go_from_one_photo_to_the_other() -> None:
    photos, maps = photos_and_maps(1)
    photo, heat = photos[0], maps[0]
    choices = FidelitySettings(steps=8, deletion_baseline="zero", insertion_baseline="zero")
    gone, back = DELETED(photo, heat, choices), INSERTED(photo, heat, choices)
    np.testing.assert_allclose(gone + back, photo.expand_as(gone))  # what is put back is what was taken out
    assert [int((each == photo).all(0).sum()) for each in back] == [10, 20, 30, 40, 50, 60, 70]
    assert bool((back[0] != 0).any(0)[heat > heat.flatten().kthvalue(70).values].all())


@pytest.mark.parametrize(("size", "sigma"), [(11, 5.0), (5, 1.0), (1, 3.0), (31, 2.0)])
def test_the_blur_is_that_of_rise(size: int, sigma: float) -> None:
    photo = photos_and_maps(1, (20, 17))[0][0]

    def channel(values: NDArray[np.float64]) -> NDArray[np.float64]:
        dirac = np.zeros((size, size))
        dirac[size // 2, size // 2] = 1
        weights = gaussian_filter(dirac, sigma)  # RISE's kernel: a Gaussian reflected at the kernel's edges
        padded = np.pad(values, size // 2, mode="edge")  # RISE pads with zeros
        windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size))
        return np.asarray((windows * weights).sum((-2, -1)))

    expected = np.stack([channel(each) for each in photo.numpy()])
    np.testing.assert_allclose(blurred(photo, size, sigma).numpy(), expected, atol=1e-12)


@settings(deadline=None, max_examples=20)
@given(st.floats(0.1, 3), st.floats(-2, 2), st.sampled_from(["blur", "mean"]))
def test_blur_and_mean_are_the_same_before_and_after_normalization(scale: float, shift: float, name: Baseline) -> None:
    photos, maps = photos_and_maps(1)
    choices = FidelitySettings(insertion_baseline=name, deletion_baseline=name, steps=4)
    for each in (BASELINES[name], INSERTED, DELETED):
        plain = each(photos[0], maps[0], choices)
        normalized = each(photos[0] * scale + shift, maps[0], choices)
        np.testing.assert_allclose(normalized, plain * scale + shift, atol=1e-12)


def test_baselines() -> None:
    photo = photos_and_maps(1)[0][0]
    choices = FidelitySettings()
    assert not BASELINES["zero"](photo, photo[0], choices).any()
    mean = BASELINES["mean"](photo, photo[0], choices)
    np.testing.assert_allclose(mean[0], photo.mean((1, 2))[:, None, None].expand_as(photo))
