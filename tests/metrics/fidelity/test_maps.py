"""Metrics that look at maps: complexity, coherency, ADCC, energy, sparseness, sensitivity."""

import numpy as np
import pytest
import torch
from captum.metrics import sensitivity_max
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from pytorch_grad_cam.metrics.arcc import Coherency, Complexity
from scipy import stats
from torch import Tensor

from dualcam.metrics import fidelity
from dualcam.metrics.fidelity import Measured
from dualcam.metrics.fidelity.adcc import adcc
from dualcam.metrics.fidelity.coherency import coherency
from dualcam.metrics.fidelity.complexity import complexity
from dualcam.metrics.fidelity.energy_pointing import energy_on_object
from dualcam.metrics.fidelity.max_sensitivity import max_sensitivity
from dualcam.metrics.fidelity.sparseness import sparseness
from dualcam.metrics.fidelity_settings import FidelitySettings
from dualcam.metrics.map_similarity import pearson, spearman
from dualcam.metrics.order import average_ranks
from dualcam.metrics.perturbations import MASKED, NOISY
from tests.metrics.fidelity.game import Classifier, photos_and_maps

MAPS = arrays(np.float64, (4, 5), elements=st.integers(0, 20).map(lambda level: level / 20))
SETTINGS = FidelitySettings()


def score(name: str, heat: NDArray[np.floating], **known: object) -> float:
    return fidelity.get(name).score(Measured(heat.astype(np.float32), **known), SETTINGS)  # type: ignore[arg-type]


@given(MAPS)
def test_complexity_is_that_of_pytorch_grad_cam(heat: NDArray[np.float64]) -> None:
    found = float(complexity(heat))
    assert found == pytest.approx(100 * Complexity()(heat[None])[0])
    assert 0 <= found <= 100
    np.testing.assert_allclose(complexity(np.stack([heat, 1 - heat])), [found, 100 - found], atol=1e-9)
    assert float(complexity(0 * heat)) == 0
    assert float(complexity(0 * heat + 1)) == 100


@given(MAPS, MAPS)
def test_correlations_are_those_of_scipy(first: NDArray[np.float64], second: NDArray[np.float64]) -> None:
    if first.min() == first.max() or second.min() == second.max():
        assert np.isnan(pearson(first, second))
        assert np.isnan(spearman(first, second))
        return
    assert pearson(first, second) == pytest.approx(stats.pearsonr(first.ravel(), second.ravel())[0], abs=1e-9)
    assert spearman(first, second) == pytest.approx(stats.spearmanr(first.ravel(), second.ravel())[0], abs=1e-9)
    np.testing.assert_array_equal(average_ranks(first), stats.rankdata(first) - 1)


def test_coherency_is_that_of_pytorch_grad_cam() -> None:
    photos, maps = photos_and_maps(4)
    again = photos_and_maps(4, seed=9)[1]
    again[1] = maps[1]
    again[2] = 1 - maps[2]

    def explain_masked(input_tensor: Tensor, targets: object) -> NDArray[np.float64]:
        torch.testing.assert_close(input_tensor, torch.cat([MASKED(*each, SETTINGS) for each in pairs]))
        return again.numpy()

    pairs = list(zip(photos, maps, strict=True))
    theirs = Coherency()(photos, maps.numpy(), [], torch.nn.Identity(), explain_masked)
    found = [coherency(*each) for each in zip(maps, again, strict=True)]
    np.testing.assert_allclose(found, 100 * theirs, atol=1e-4)
    assert found[1] == pytest.approx(100)
    assert found[2] == pytest.approx(0, abs=1e-9)
    named = [
        score("coherency", heat.numpy(), maps={MASKED: other.numpy()[None]})
        for heat, other in zip(maps, again, strict=True)
    ]
    np.testing.assert_allclose(named, found, atol=1e-4)


def test_a_constant_map_has_no_coherency() -> None:
    """pytorch-grad-cam calls it half coherent (its epsilon makes the correlation 0); the authors' code says 0."""
    heat = photos_and_maps(1)[1][0].numpy()
    for flat in (np.zeros_like(heat), np.full_like(heat, 0.1)):
        assert coherency(flat, heat) == coherency(heat, flat) == coherency(flat, flat) == 0


@given(*[st.floats(0, 100)] * 3)
def test_adcc_is_the_harmonic_mean(drop: float, coherent: float, complex_: float) -> None:
    parts = (100 - drop, coherent, 100 - complex_)
    found = adcc(drop, coherent, complex_)
    assert found == pytest.approx(stats.hmean(parts) if min(parts) > 0 else 0.0)
    assert min(parts) - 1e-9 <= found <= min(3 * min(parts), 100) + 1e-9


def test_adcc_is_made_of_its_parts() -> None:
    heat, again = (each.numpy() for each in photos_and_maps(2)[1])
    known = {"probability": 0.8, "probabilities": {MASKED: np.array([0.6])}, "maps": {MASKED: again[None]}}
    parts = [100 - score("average-drop", heat, **known), score("coherency", heat, **known)]
    parts.append(100 - score("complexity", heat))
    assert score("adcc", heat, **known) == pytest.approx(stats.hmean(parts))
    assert score("adcc", 0 * heat, **known) == 0
    assert score("adcc", 0 * heat + 1, **known) == 0
    assert np.isnan(score("adcc", heat, **(known | {"probability": float("nan")})))


def naive_energy(heat: NDArray[np.float64], truth: NDArray[np.uint8]) -> float:
    inside = sum(float(value) for value, kind in zip(heat.flat, truth.flat, strict=True) if kind == 1)
    outside = sum(float(value) for value, kind in zip(heat.flat, truth.flat, strict=True) if kind == 0)
    return 100 * inside / (inside + outside) if inside + outside > 0 else 0.0


@given(MAPS, arrays(np.uint8, (4, 5), elements=st.sampled_from([0, 1, 255])))
def test_energy_on_the_object(heat: NDArray[np.float64], truth: NDArray[np.uint8]) -> None:
    found = energy_on_object(heat, truth)
    if not (truth == 1).any():
        assert np.isnan(found)
        return
    assert found == pytest.approx(naive_energy(heat, truth))
    assert 0 <= found <= 100
    share = 100 * (truth == 1).sum() / (truth != 255).sum()
    assert energy_on_object(np.ones_like(heat), truth) == pytest.approx(share)
    assert energy_on_object(np.zeros_like(heat), truth) == 0
    if found > 0:
        assert energy_on_object(heat / 7, truth) == pytest.approx(found)


def test_energy_needs_truth() -> None:
    heat = np.ones((4, 5))
    assert np.isnan(score("energy-pointing", heat))
    assert score("energy-pointing", heat, truth=np.ones((4, 5), np.uint8)) == 100
    with pytest.raises(ValueError, match="one shape"):
        energy_on_object(heat, np.ones((5, 4), np.uint8))


@given(MAPS, st.floats(0.1, 10))
def test_sparseness_is_the_gini_index(heat: NDArray[np.float64], scale: float) -> None:
    """As half of the relative mean difference, which is another formula for it."""
    found = sparseness(heat)
    values, count = heat.ravel(), heat.size
    if values.sum() == 0:
        assert found == 0
        return
    differences = np.abs(values[:, None] - values).mean() / (2 * values.mean())
    assert found == pytest.approx(differences, abs=1e-12)
    assert 0 <= found <= 1 - 1 / count
    assert sparseness(-scale * heat) == pytest.approx(found, abs=1e-12)
    assert sparseness(np.concatenate([heat, heat])) == pytest.approx(found, abs=1e-12)
    assert sparseness(np.concatenate([heat, 0 * heat])) == pytest.approx((1 + found) / 2, abs=1e-12)


@given(MAPS)
def test_sparseness_of_a_narrow_type_is_that_of_its_values(heat: NDArray[np.float64]) -> None:
    """To the bit, though they are sorted in their own type."""
    narrow, levels = heat.astype(np.float32), (255 * heat).astype(np.uint8)
    assert sparseness(narrow) == sparseness(narrow.astype(np.float64))
    assert sparseness(levels) == sparseness(levels.astype(np.float64))


def test_sparseness_at_its_ends() -> None:
    assert sparseness(np.full((4, 5), 0.1)) == sparseness(np.zeros((4, 5))) == 0
    one = np.zeros((4, 5))
    one[2, 3] = 0.4
    assert sparseness(one) == pytest.approx(1 - 1 / 20)


@pytest.mark.parametrize("degenerate", [False, True])
def test_sensitivity_is_that_of_captum(degenerate: bool) -> None:
    """On the same noise; captum maximizes over a sample as well."""
    photos, _ = photos_and_maps(3)
    model = Classifier((8, 10))
    choices = FidelitySettings(sensitivity_samples=6, sensitivity_radius=0.3)

    def explain(batch: Tensor) -> Tensor:
        batch = batch.detach().requires_grad_()
        with torch.enable_grad():
            score_ = model(batch)[:, 1].sum()
            maps: Tensor = torch.autograd.grad(score_, batch)[0].mean(1)
        return (maps - 0.05).relu() * 0 if degenerate else maps.relu()

    def perturb(inputs: Tensor, radius: float) -> Tensor:
        assert radius == 0.3
        return torch.cat([NOISY(photo, photo[0], choices) for photo in photos])

    def as_captum_asks(batch: Tensor | tuple[Tensor]) -> tuple[Tensor]:
        return (explain(batch if isinstance(batch, Tensor) else batch[0]),)

    theirs = sensitivity_max(as_captum_asks, photos, perturb, perturb_radius=0.3, n_perturb_samples=6)
    plain = explain(photos).numpy()
    for photo, heat, expected in zip(photos, plain, theirs.tolist(), strict=True):
        noisy = explain(NOISY(photo, photo[0], choices)).numpy()
        found = max_sensitivity(heat, noisy)
        assert found == pytest.approx(expected, rel=1e-9)
        assert found == 0 if degenerate else found > 0
        assert score("max-sensitivity", heat, maps={NOISY: noisy}) == pytest.approx(found, rel=1e-5)
        assert max_sensitivity(heat, noisy[:1]) <= found
        assert max_sensitivity(heat, np.stack([heat] * 3)) == 0
        assert max_sensitivity(0 * heat, noisy) == pytest.approx(np.linalg.norm(noisy.reshape(6, -1), axis=1).max())


@settings(deadline=None, max_examples=20)
@given(st.floats(0, 1), st.integers(0, 2**31))
def test_noise_stays_within_the_radius(radius: float, seed: int) -> None:
    photo = photos_and_maps(1)[0][0]
    choices = FidelitySettings(sensitivity_radius=radius, seed=seed, sensitivity_samples=3)
    noise = NOISY(photo, photo[0], choices) - photo
    assert float(noise.abs().max()) <= radius + 1e-12
    assert float(noise.abs().max()) >= 0.9 * radius - 1e-12
    assert torch.equal(noise, NOISY(photo, 1 - photo[0], choices) - photo)  # the same for all maps
    if radius > 1e-6:
        other = FidelitySettings(sensitivity_radius=radius, seed=seed + 1, sensitivity_samples=3)
        assert not torch.equal(noise, NOISY(photo, photo[0], other) - photo)
