"""Every fidelity metric, found by listing the folder, keeps the protocol."""

import pytest
import torch

from dualcam.errors import ChoiceError
from dualcam.metrics import fidelity
from dualcam.metrics.fidelity_settings import FidelitySettings

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
