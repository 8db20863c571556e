"""Photos to the input, maps back to source pixels."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from dualcam import Preprocessing
from dualcam.data.preprocessing import Placement, interpolation_weights, place, to_source
from dualcam.errors import ChoiceError
from dualcam.types import Fit

FITS: list[Fit] = ["squash", "crop", "pad"]
SQUARE = Preprocessing(size=(64, 64))


@given(st.integers(1, 9), st.integers(1, 60), st.sampled_from([32, 100, 224]))
def test_weights_equal_torch_interpolate(cells: int, pixels: int, extent: int) -> None:
    row = torch.randn(1, 1, cells, generator=torch.Generator().manual_seed(cells), dtype=torch.float64)
    expected = functional.interpolate(row, pixels, mode="linear", align_corners=False)[0, 0].numpy()
    weights = interpolation_weights(cells, pixels, extent / pixels, 0.0, extent)
    np.testing.assert_allclose(weights @ row[0, 0].numpy(), expected, atol=1e-5)


@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 50), st.integers(1, 50))
def test_a_squashed_map_goes_back_as_torch_resizes_it(rows: int, columns: int, height: int, width: int) -> None:
    raw = torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows))
    _, placement = place(Image.new("RGB", (width, height)), SQUARE, "squash")
    expected = functional.interpolate(raw[None, None], (height, width), mode="bilinear", align_corners=False)[0, 0]
    np.testing.assert_allclose(to_source(raw.numpy(), placement), expected.numpy(), atol=1e-5)


@given(st.integers(2, 40), st.integers(2, 40), st.sampled_from(FITS))
def test_weights_add_up_to_one_inside_and_zero_outside(width: int, height: int, fit: Fit) -> None:
    _, placement = place(Image.new("RGB", (width, height)), replace(SQUARE, crop_share=0.8), fit)
    covered = to_source(np.ones((4, 4), np.float32), placement)
    assert np.all(np.isclose(covered, 0, atol=1e-5) | np.isclose(covered, 1, atol=1e-5))
    if fit == "crop":
        assert (covered[0, 0] == 0) == (covered[-1, -1] == 0)
    else:
        assert np.allclose(covered, 1, atol=1e-5)


def spot(width: int, height: int, left: int, top: int, side: int) -> Image.Image:
    """Return a dark photo with a white square."""
    pixels: NDArray[np.uint8] = np.zeros((height, width, 3), np.uint8)
    pixels[top : top + side, left : left + side] = 255
    return Image.fromarray(pixels)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize(("width", "height"), [(200, 120), (120, 200), (64, 64), (301, 77), (66, 300)])
def test_what_is_seen_in_the_input_goes_back_to_where_it_was(fit: Fit, width: int, height: int) -> None:
    side = min(width, height) // 4
    left, top = width // 2 - side, height // 2 - side // 2
    seen, placement = place(spot(width, height, left, top, side), replace(SQUARE, crop_share=0.9), fit)
    assert seen.size == (64, 64)
    assert placement.source == (width, height)
    bright: NDArray[np.float32] = np.asarray(seen.convert("L"), np.float32) / np.float32(255)
    if fit == "pad":
        bright = np.where(bright > 0.9, 1, 0).astype(np.float32)  # the mean color around the photo is no spot
    back = to_source(bright, placement)
    assert back.shape == (height, width)
    ys, xs = np.mgrid[:height, :width] + 0.5
    cell = max(width, height) / 64
    assert float((back * xs).sum() / back.sum()) == pytest.approx(left + side / 2, abs=cell)
    assert float((back * ys).sum() / back.sum()) == pytest.approx(top + side / 2, abs=cell)
    if fit != "pad":
        assert back.sum() == pytest.approx(side * side, rel=0.2)


def test_crop_is_the_models_own_evaluation_crop() -> None:
    """The centre of the short side, as torchvision's resize and centre crop take it, within resampling."""
    from torchvision.transforms import functional as vision

    noise = np.random.default_rng(0).integers(0, 255, (15, 20, 3), dtype=np.uint8)
    photo = Image.fromarray(noise).resize((200, 150), Image.Resampling.BICUBIC)
    seen, _ = place(photo, Preprocessing(size=(56, 56), crop_share=0.875), "crop")
    expected = vision.center_crop(vision.resize(photo, 64), [56, 56])
    difference = np.abs(np.asarray(seen, np.float32) - np.asarray(expected, np.float32))
    assert difference.mean() < 4


def test_pad_fills_with_the_mean_color() -> None:
    seen, placement = place(Image.new("RGB", (100, 50), "white"), SQUARE, "pad")
    pixels = np.asarray(seen)
    assert placement.offset[1] == 16
    assert (pixels[16:48] == 255).all()
    assert (pixels[:16] == [round(255 * value) for value in SQUARE.mean]).all()
    assert np.abs(SQUARE.normalize(seen)[:, :16].numpy()).max() < 0.01


def test_a_squashed_box_of_the_photo() -> None:
    _, placement = place(Image.new("RGB", (100, 80)), SQUARE, "squash", box=(50, 0, 100, 40))
    covered = to_source(np.ones((2, 2), np.float32), placement)
    assert covered[:40, 50:].min() > 0.99
    assert covered.sum() == pytest.approx(2000)


def test_normalize_applies_mean_and_deviation_and_goes_back() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (5, 7, 3), dtype=np.uint8)
    tensor = SQUARE.normalize(Image.fromarray(pixels))
    assert tensor.shape == (3, 5, 7)
    expected = (pixels[2, 4] / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(tensor[:, 2, 4].numpy(), expected, rtol=1e-5)
    assert np.array_equal(np.asarray(SQUARE.denormalize(tensor)), pixels)


def test_a_smaller_size_shows_the_whole_photo() -> None:
    raw = np.arange(12, dtype=np.float32).reshape(3, 4)
    _, placement = place(Image.new("RGB", (90, 60)), SQUARE, "squash")
    np.testing.assert_allclose(to_source(raw, placement, (3, 4)), raw, atol=1e-5)


def test_json_round_trip() -> None:
    given_ = Preprocessing((31, 33), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "lanczos", 0.7, "a test")
    assert Preprocessing.from_json(json.loads(json.dumps(given_.to_json()))) == given_


def test_identity_placement() -> None:
    raw = torch.randn(6, 8).numpy()
    np.testing.assert_allclose(to_source(raw, Placement.identity(8, 6)), raw, atol=1e-6)


def test_unknown_choices() -> None:
    with pytest.raises(ChoiceError, match=r"'stretch'.*'squash', 'crop', 'pad'"):
        place(Image.new("RGB", (9, 9)), SQUARE, "stretch")  # type: ignore[arg-type]
    with pytest.raises(ChoiceError, match="'area'"):
        Preprocessing(interpolation="area")  # type: ignore[arg-type]
