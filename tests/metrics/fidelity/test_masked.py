"""Average Drop, Increase in Confidence and Average Gain."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pytorch_grad_cam.metrics.cam_mult_image import DropInConfidence, IncreaseInConfidence
from torchcam.metrics import ClassificationMetric

from dualcam.metrics import fidelity
from dualcam.metrics.fidelity import Measured
from dualcam.metrics.fidelity.average_drop import average_drop
from dualcam.metrics.fidelity.average_gain import average_gain
from dualcam.metrics.fidelity.increase import increase
from dualcam.metrics.fidelity_settings import FidelitySettings
from dualcam.metrics.perturbations import MASKED
from tests.metrics.fidelity.game import Classifier, GivenMaps, photos_and_maps

SETTINGS = FidelitySettings()
PROBABILITY = st.floats(0, 1)


def naive(y: float, o: float) -> tuple[float, float, float]:
    drop = 0.0 if y == 0 or o >= y else (y - o) / y
    gain = 0.0 if y == 1 or o <= y else (o - y) / (1 - y)
    return 100 * drop, 100.0 if o > y else 0.0, 100 * gain


@given(st.lists(st.tuples(PROBABILITY, PROBABILITY), min_size=1, max_size=8))
def test_the_definitions_in_their_ranges(pairs: list[tuple[float, float]]) -> None:
    y, o = np.array(pairs).T
    kept = y.copy(), o.copy()
    found = np.stack([average_drop(y, o), increase(y, o), average_gain(y, o)], 1)
    assert found.min() >= 0
    assert found.max() <= 100
    np.testing.assert_allclose(found, [naive(*pair) for pair in pairs], rtol=1e-12)
    alone = [[float(each(*pair)) for each in (average_drop, increase, average_gain)] for pair in pairs]
    np.testing.assert_array_equal(found, alone)
    assert (found[:, 0] * found[:, 2] == 0).all()
    np.testing.assert_array_equal(y, kept[0])
    np.testing.assert_array_equal(o, kept[1])


@pytest.mark.parametrize(("y", "o"), [(0.0, 0.0), (0.0, 0.5), (1.0, 1.0), (1.0, 0.25), (0.5, 0.5), (1e-300, 0.0)])
def test_where_a_ratio_has_no_denominator(y: float, o: float) -> None:
    assert (float(average_drop(y, o)), float(increase(y, o)), float(average_gain(y, o))) == naive(y, o)


def test_what_is_not_known_stays_unknown() -> None:
    for y, o in ((np.nan, 0.5), (0.5, np.nan), (0.0, np.nan), (1.0, np.nan)):
        assert np.isnan([average_drop(y, o), increase(y, o), average_gain(y, o)]).all()


@pytest.mark.parametrize("heat", ["random", "ones", "zeros", "constant"])
def test_as_other_libraries_have_them(heat: str) -> None:
    photos, maps = photos_and_maps(7)
    if heat != "random":
        maps = torch.full_like(maps, {"ones": 1.0, "zeros": 0.0, "constant": 0.3}[heat])
    model = Classifier((8, 10))
    classes = model(photos).argmax(1)
    values: dict[str, list[float]] = {"average-drop": [], "increase": [], "average-gain": []}
    before, after = [], []
    for photo, map_, k in zip(photos, maps, classes.tolist(), strict=True):
        y = float(model.probabilities(photo[None], k))
        o = model.probabilities(MASKED(photo, map_, SETTINGS), k).numpy()
        measured = Measured(map_.numpy().astype(np.float32), y, {MASKED: o})
        for name, found in values.items():
            found.append(fidelity.get(name).score(measured, SETTINGS))
        before.append(y)
        after.append(float(o[0]))

    theirs = ClassificationMetric(GivenMaps(model, maps), partial(torch.softmax, dim=-1))
    theirs.update(photos)
    summary = theirs.summary()
    # torchcam adds 1e-7 to the denominator
    assert np.mean(values["average-drop"]) == pytest.approx(100 * summary["avg_drop"], rel=1e-5)
    if heat != "ones":  # x * 1 is the photo, but not to torchcam's last bit
        assert np.mean(values["increase"]) == pytest.approx(100 * summary["conf_increase"])
    else:
        assert values == {name: [0.0] * 7 for name in values}
    # pytorch-grad-cam's drop is the difference, not divided by Y as in the paper
    targets = [lambda output, k=k: output.softmax(-1)[k] for k in classes.tolist()]
    drops = DropInConfidence()(photos, maps.numpy(), targets, model)
    np.testing.assert_allclose(np.array(values["average-drop"]) * before, 100 * drops, atol=1e-4)
    if heat != "ones":
        grown = IncreaseInConfidence()(photos, maps.numpy(), targets, model)
        np.testing.assert_array_equal(np.array(values["increase"]) > 0, grown > 0)


def test_the_mask_multiplies_every_channel() -> None:
    photos, maps = photos_and_maps(1)
    found = MASKED(photos[0], maps[0].float(), SETTINGS)
    np.testing.assert_array_equal(found[0].numpy(), photos[0].numpy() * maps[0].float().double().numpy()[None])
