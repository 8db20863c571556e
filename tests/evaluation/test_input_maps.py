"""Maps and truth on the pixels of the model's input."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from dualcam.data.preprocessing import Placement, Preprocessing, place
from dualcam.evaluation.input_maps import IGNORED, resize_maps, resize_views, trivial_heats, truth_on_input
from dualcam.evaluation.views import GRID, ViewMaps
from dualcam.types import Fit

PHOTO = (400, 200)
BOXES = np.array([[56.0, 28.0, 112.0, 140.0], [168.0, 168.0, 210.0, 200.0]])
"""On the square grid over a photo that is 400 pixels wide and 200 high."""


@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
@pytest.mark.parametrize("masked", [False, True])
def test_truth_lies_where_the_photo_lies(fit: Fit, masked: bool) -> None:
    """A photo that is painted where the truth is, brought to the input: what is painted there is the truth there."""
    pixels = np.zeros((PHOTO[1], PHOTO[0], 3), dtype=np.uint8)
    mask = np.zeros((GRID, GRID), dtype=np.uint8)
    for x0, y0, x1, y1 in BOXES:
        across, down = PHOTO[0] / GRID, PHOTO[1] / GRID
        pixels[round(y0 * down) : round(y1 * down), round(x0 * across) : round(x1 * across)] = 255
        mask[int(y0) : int(y1), int(x0) : int(x1)] = 1
    preprocessing = Preprocessing(size=(96, 128), mean=(0.0, 0.0, 0.0))
    placed, placement = place(Image.fromarray(pixels), preprocessing, fit)
    truth = truth_on_input(None if masked else BOXES, mask if masked else None, placement)
    assert truth is not None
    painted = np.asarray(placed)[..., 0] > 127
    inside = truth != IGNORED
    assert inside.all() == (fit != "pad")
    assert not painted[~inside].any()
    assert (truth[inside] == painted[inside]).mean() > 0.98  # but for pixels that a border crosses
    assert (truth == 1).sum() > 100


def test_ignored_pixels_stay_ignored() -> None:
    mask = np.full((GRID, GRID), IGNORED, dtype=np.uint8)
    mask[:, : GRID // 2] = 1
    truth = truth_on_input(BOXES, mask, Placement.identity(GRID, GRID))
    np.testing.assert_array_equal(truth, mask)  # masks come before boxes
    assert truth_on_input(None, None, Placement.identity(GRID, GRID)) is None


def test_maps_are_resized_as_pytorch_does() -> None:
    raw = torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    expected = functional.interpolate(raw, (40, 50), mode="bilinear", align_corners=False)
    np.testing.assert_allclose(resize_maps(raw.numpy(), (40, 50)), expected, atol=1e-5)
    other = torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(1))
    both = [ViewMaps(each, (Placement.identity(50, 40),) * 2) for each in (raw, other)]
    more = functional.interpolate(other, (40, 50), mode="bilinear", align_corners=False)
    np.testing.assert_allclose(resize_views(both, 1, (40, 50)), (expected[1] + more[1]) / 2, atol=1e-5)


def test_trivial_maps_have_seen_no_photo() -> None:
    blob, ones = trivial_heats((30, 60))
    assert (ones == 1).all()
    np.testing.assert_allclose(blob, blob[::-1, ::-1], atol=1e-6)
    assert 0.98 < blob.max() <= 1
    assert blob[15, 0] == pytest.approx(np.exp(-2), rel=0.1)  # two deviations from the middle
