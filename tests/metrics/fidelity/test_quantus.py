"""Against Quantus, where it is installed.

It drags in a second OpenCV, so it is no dependency of ours: run this file in an environment of its own (`pip install
quantus` there), after changes to these metrics.
"""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dualcam.metrics import fidelity
from dualcam.metrics.fidelity import Measured
from dualcam.metrics.fidelity.energy_pointing import energy_on_object
from dualcam.metrics.fidelity.max_sensitivity import max_sensitivity
from dualcam.metrics.fidelity.sparseness import sparseness
from dualcam.metrics.fidelity_settings import FidelitySettings
from dualcam.metrics.imputation import fill_linearly
from dualcam.metrics.map_similarity import spearman
from dualcam.metrics.perturbations import MOST_RELEVANT_IMPUTED, NOISY
from tests.metrics.fidelity.game import Classifier, photos_and_maps

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def quantus() -> Any:
    return pytest.importorskip("quantus", reason="Quantus is not installed; it is checked in an environment of its own")


def ask(metric: Any, photos: Tensor, maps: NDArray[np.floating], model: nn.Module, **options: Any) -> list[Any]:
    """Run a metric of theirs on photos [B, C, H, W] and maps [B, H, W], class 1."""
    found: list[Any] = metric(
        model=model,
        x_batch=photos.numpy(),
        y_batch=np.ones(len(photos), int),
        a_batch=maps[:, None].copy(),
        channel_first=True,
        device="cpu",
        **options,
    )
    return found


QUIET = {"disable_warnings": True, "display_progressbar": False}


def test_sparseness(quantus: Any) -> None:
    photos, maps = photos_and_maps(5)
    maps[1] = maps[1].mul(3).round() / 3
    found = ask(quantus.Sparseness(**QUIET), photos, maps.numpy(), Classifier((8, 10)))
    np.testing.assert_allclose([sparseness(each) for each in maps], found, atol=1e-5)  # theirs adds 1e-7 to each pixel


def test_energy_pointing_is_their_relevance_mass_accuracy(quantus: Any) -> None:
    photos, maps = photos_and_maps(4)
    truth = np.zeros((4, 1, 8, 10), np.uint8)
    truth[:, :, 2:6, 1:7] = 1
    truth[3] = 0
    metric = quantus.RelevanceMassAccuracy(abs=False, normalise=False, **QUIET)
    found = ask(metric, photos, maps.numpy(), Classifier((8, 10)), s_batch=truth)
    ours = [energy_on_object(heat, mask[0]) for heat, mask in zip(maps, truth, strict=True)]
    np.testing.assert_allclose(ours, 100 * np.array(found), rtol=1e-6)


def test_max_sensitivity(quantus: Any) -> None:
    photos, _ = photos_and_maps(3)
    model, choices = Classifier((8, 10)), FidelitySettings(sensitivity_samples=7, sensitivity_radius=0.2)
    noisy = torch.stack([NOISY(photo, photo[0], choices) for photo in photos], 1)
    steps = iter(noisy.numpy())

    def explain(model: Any, inputs: NDArray[np.floating], targets: object, **_: object) -> NDArray[np.floating]:
        batch = torch.as_tensor(inputs).double().requires_grad_()
        gradients = torch.autograd.grad(model(batch)[:, 1].sum(), batch)[0]
        return np.asarray(gradients.mean(1, keepdim=True).relu().numpy())

    def perturb(arr: NDArray[np.floating], **_: object) -> NDArray[np.floating]:
        return np.asarray(next(steps).reshape(arr.shape))

    plain = explain(model, photos.numpy(), 1)[:, 0]
    metric = quantus.MaxSensitivity(nr_samples=7, perturb_func=perturb, **QUIET)
    found = ask(metric, photos, plain, model, explain_func=explain)
    ours = [max_sensitivity(heat, explain(model, noisy[:, place].numpy(), 1)[:, 0]) for place, heat in enumerate(plain)]
    np.testing.assert_allclose(ours, found, rtol=1e-6)


def test_deletion_is_the_area_of_their_pixel_flipping(quantus: Any) -> None:
    """On one channel: theirs orders channels' values, not pixels. Its curve lacks the untouched photo."""
    photos, maps = photos_and_maps(3)
    photos = photos[:, :1]

    class OneChannel(Classifier):
        def forward(self, photos: Tensor) -> Tensor:
            return super().forward(photos.expand(-1, 3, -1, -1))

    model = OneChannel((8, 10)).eval()
    metric = quantus.PixelFlipping(features_in_step=10, perturb_baseline=0.0, abs=False, normalise=False, **QUIET)
    found = ask(metric, photos, maps.numpy(), model, softmax=True)
    choices, deletion = FidelitySettings(steps=8, deletion_baseline="zero"), fidelity.get("deletion")
    for photo, heat, curve in zip(photos, maps, found, strict=True):
        answers = {
            each: model.probabilities(each(photo, heat, choices), 1).numpy() for each in deletion.perturbations(choices)
        }
        start = float(model.probabilities(photo[None], 1))
        ours = deletion.score(Measured(heat.numpy().astype(np.float32), start, answers), choices)
        assert ours == pytest.approx(np.trapezoid([start, *curve], dx=1 / 8), rel=1e-5)


def test_imputation(quantus: Any) -> None:
    photos, maps = photos_and_maps(1, (10, 10))
    removed = (maps[0] >= maps[0].flatten().kthvalue(41).values).numpy()
    fill = quantus.functions.perturb_func.noisy_linear_imputation
    found = fill(photos[0].numpy().copy(), np.flatnonzero(removed), noise=0.0)
    ours = MOST_RELEVANT_IMPUTED(photos[0], maps[0], FidelitySettings(road_noise=0, road_percentages=(60,)))[0]
    np.testing.assert_allclose(ours, fill_linearly(photos[0].numpy(), removed[None])[0])
    np.testing.assert_allclose(ours, found, atol=1e-5)


def test_rank_correlation(quantus: Any) -> None:
    maps = photos_and_maps(2)[1].mul(9).round().numpy()
    theirs = quantus.functions.similarity_func.correlation_spearman(maps[0].ravel(), maps[1].ravel())
    assert spearman(maps[0], maps[1]) == pytest.approx(theirs)
