"""Every fidelity metric, found by listing the folder, keeps the protocol."""

from copy import deepcopy
from itertools import product

import numpy as np
import pytest
import torch

from dualcam.errors import ChoiceError
from dualcam.metrics import fidelity
from dualcam.metrics.fidelity import Measured
from dualcam.metrics.fidelity_settings import FidelitySettings
from dualcam.metrics.order import average_ranks

SETTINGS = [
    FidelitySettings(),
    FidelitySettings(steps=1, insertion_baseline="zero", deletion_baseline="blur", sensitivity_samples=2),
    FidelitySettings(steps=3, insertion_baseline="mean", deletion_baseline="zero", road_percentages=(20.0,)),
]


def test_what_the_folder_holds() -> None:
    found = fidelity.available()
    assert {"average-drop", "increase", "average-gain", "insertion", "deletion"} <= set(found)
    for name, metric in found.items():
        assert fidelity.get(name) is metric
        assert metric.low < metric.high
        assert all((metric.title, metric.paper))
    with pytest.raises(ChoiceError, match="average-drop"):
        fidelity.get("nothing")


@pytest.mark.parametrize("settings", SETTINGS, ids=["default", "one-step", "three-steps"])
@pytest.mark.parametrize("name", fidelity.available())
def test_photos_are_new_and_counted(name: str, settings: FidelitySettings) -> None:
    generator = torch.Generator().manual_seed(1)
    photo = torch.rand(3, 12, 10, generator=generator)
    heat = torch.rand(12, 10, generator=generator).mul(4).round().div(4)
    kept = photo.clone(), heat.clone()
    for perturbation in fidelity.get(name).perturbations(settings):
        photos = perturbation(photo, heat, settings)
        assert photos.shape == (perturbation.count(settings), 3, 12, 10)
        assert photos.dtype == photo.dtype
        assert torch.equal(photos, perturbation(photo, heat, settings))
        double = perturbation(photo.double(), heat, settings)
        assert double.dtype == torch.float64
        torch.testing.assert_close(double.float(), photos, atol=2e-6, rtol=0)
        photos.fill_(7)
        assert torch.equal(photo, kept[0])
        assert torch.equal(heat, kept[1])


HEATS = {
    "random": np.random.default_rng(0).random((6, 7)).astype(np.float32),
    "levels": np.random.default_rng(1).integers(0, 3, (6, 7)).astype(np.float32) / 2,
    "ones": np.ones((6, 7), np.float32),
    "zeros": np.zeros((6, 7), np.float32),
    "constant": np.full((6, 7), 0.1, np.float32),
    "one pixel": np.eye(42, dtype=np.float32)[17].reshape(6, 7),
}


@pytest.mark.parametrize("probability", [0.0, 1e-30, 0.4, 1.0])
@pytest.mark.parametrize("name", fidelity.available())
def test_scores_keep_their_range_and_their_hands_off(name: str, probability: float) -> None:
    metric, settings = fidelity.get(name), FidelitySettings(steps=4, road_percentages=(30, 60), sensitivity_samples=3)
    generator = np.random.default_rng(2)
    for heat, truth in product(HEATS.values(), (None, np.array(HEATS["levels"] * 2 == 1, np.uint8))):
        for answers in (np.zeros, np.ones, generator.random):
            known = Measured(
                heat.copy(),
                probability,
                {each: answers(each.count(settings)) for each in metric.asks(settings)},
                {
                    each: np.stack([*HEATS.values()])[generator.permutation(6)][: each.count(settings)]
                    for each in metric.explains(settings)
                },
                np.stack([*HEATS.values()]),
                np.stack([average_ranks(each) for each in (heat, *HEATS.values())]),
                truth,
            )
            kept = deepcopy(known)
            value = metric.score(known, settings)
            assert type(value) is float
            assert metric.low <= value <= metric.high or (metric.needs_truth and truth is None and np.isnan(value))
            assert value == metric.score(known, settings) or np.isnan(value)
            np.testing.assert_array_equal(known.heat, kept.heat)
            np.testing.assert_array_equal(known.redrawn, kept.redrawn)
            np.testing.assert_array_equal(known.ranks, kept.ranks)
            for ours, theirs in ((known.probabilities, kept.probabilities), (known.maps, kept.maps)):
                for before, after in zip(ours.values(), theirs.values(), strict=True):
                    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(
    "bad",
    [
        {"space": "lab"},
        {"steps": 0},
        {"insertion_baseline": "black"},
        {"deletion_baseline": "black"},
        {"blur_size": 10},
        {"blur_sigma": 0.0},
        {"road_percentages": ()},
        {"road_percentages": (0.0,)},
        {"road_noise": -1.0},
        {"sensitivity_radius": float("nan")},
        {"sensitivity_samples": 0},
        {"head_surgery": "burn"},
        {"head_draws": 0},
    ],
)
def test_settings_outside_of_their_range_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ChoiceError, match=next(iter(bad))):
        FidelitySettings(**bad)  # type: ignore[arg-type]
