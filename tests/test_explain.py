"""`explain`: inputs, classes, sizes, fits, and what an explanation gives."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

import dualcam
from dualcam import DualBranch, Preprocessing
from dualcam.errors import ChoiceError, ClassNotFound, ModelError, PhotoError
from dualcam.localize import iou
from dualcam.types import Fit, HeadKind, Normalization, Sign
from tests.models import CLASSES, GRID, KINDS, LINEAR, PREPROCESSING, SIZE, images, maps, tiny, wrapped

NAMES = ("ant", "bee", "cat", "dog", "eel")
FITS: list[Fit] = ["squash", "crop", "pad"]


@pytest.fixture(scope="module")
def model() -> DualBranch:
    return dualcam.wrap(
        tiny("pooled-linear", dtype=torch.float32), preprocessing=PREPROCESSING, class_names=list(NAMES)
    )


def photo(width: int = 50, height: int = 40, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


class Brightness(nn.Module):
    """Class 0 speaks for bright cells of 4 x 4 pixels, class 1 against them; dark photos say nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 4, stride=4, bias=False)
        self.relu = nn.ReLU()
        self.fc = nn.Linear(2, 2, bias=False)
        nn.init.constant_(self.conv.weight, 1 / 48)
        nn.init.constant_(self.fc.weight, 0)
        with torch.no_grad():
            self.fc.weight[:, 0] = torch.tensor([2.0, -3.0])

    def forward(self, batch: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.relu(self.conv(batch)).mean((2, 3)))
        return logits


@pytest.fixture(scope="module")
def brightness() -> DualBranch:
    preprocessing = Preprocessing(size=(64, 64), mean=(0, 0, 0), std=(1, 1, 1), crop_share=0.9)
    return dualcam.wrap(Brightness().eval(), preprocessing=preprocessing, class_names=["bright", "dark"])


def lit(width: int, height: int, box: tuple[int, int, int, int]) -> Image.Image:
    """Return a black photo with a white box."""
    image = Image.new("RGB", (width, height))
    image.paste("white", box)
    return image


# --- inputs ------------------------------------------------------------------------------------------------------


def test_photos_paths_lists_and_tensors_agree(model: DualBranch, tmp_path: Path) -> None:
    file = tmp_path / "photo.png"
    photo().save(file)
    resized = photo().resize((SIZE[1], SIZE[0]), Image.Resampling.BILINEAR)
    tensor = PREPROCESSING.normalize(resized).unsqueeze(0)
    (expected,) = model.explain(tensor, "all")
    assert expected.source is None
    inputs: list[Any] = [photo(), file, str(file), [photo()], (file,), iter([photo()]), tensor.double()]
    for given in inputs:
        (found,) = model.explain(given, "all")
        torch.testing.assert_close(found.raw, expected.raw)
        assert found.source == (str(file) if given in (file, str(file), (file,)) else None)
    assert expected[0].map.shape == SIZE
    (found,) = model.explain(photo(), "all")
    assert found[0].map.shape == (40, 50)


def test_batches_do_not_matter(model: DualBranch) -> None:
    photos = [photo(30 + seed, 40, seed) for seed in range(5)]
    classes = torch.tensor([0, 1, 2, 3, 4])
    expected = model.explain(photos, classes)
    assert [int(item.indices[0]) for item in expected] == [0, 1, 2, 3, 4]
    for batch_size in (1, 2, 5, 100):
        found = model.explain(photos, classes, batch_size=batch_size)
        assert [item.placement.source for item in found] == [item.placement.source for item in expected]
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one.raw, other.raw)
    with pytest.raises(ChoiceError, match="batch_size must be at least 1; got 0"):
        model.explain(photos, batch_size=0)


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_classes_of_another_number_of_photos_are_refused(model: DualBranch, batch_size: int) -> None:
    photos = [photo(seed=seed) for seed in range(3)]
    for count in (1, 2, 4):
        with pytest.raises(ChoiceError, match="images"):
            model.explain(photos, torch.zeros(count, dtype=torch.long), batch_size=batch_size)


def test_nothing_gives_nothing(model: DualBranch) -> None:
    assert model.explain([]) == []
    assert model.explain(torch.zeros(0, 3, *SIZE)) == []


@pytest.mark.parametrize(
    "given", [torch.zeros(3, *SIZE), torch.zeros(1, 3, *SIZE, dtype=torch.uint8), torch.zeros(3)], ids=str
)
def test_tensors_of_another_form_are_refused(model: DualBranch, given: Tensor) -> None:
    with pytest.raises(ChoiceError, match=r"\[B, 3, H, W\]"):
        model.explain(given)


def test_other_inputs_are_refused(model: DualBranch, tmp_path: Path) -> None:
    with pytest.raises(ChoiceError, match="got int"):
        model.explain([7])
    with pytest.raises(PhotoError, match=r"none\.png does not exist"):
        model.explain(tmp_path / "none.png")


def test_another_input_size_gives_another_grid(model: DualBranch) -> None:
    (explanation,) = model.explain(torch.randn(1, 3, 48, 40))
    assert explanation.raw.shape == (1, 12, 10)
    assert explanation.heatmap().shape == (48, 40)


# --- classes -----------------------------------------------------------------------------------------------------


def test_classes(model: DualBranch) -> None:
    batch = images(2, torch.float32)
    logits = model.eval()(batch).softmax
    order = logits.argsort(1, descending=True)

    def asked(classes: Any) -> list[list[int]]:
        return [item.indices.tolist() for item in model.explain(batch, classes)]

    assert asked(None) == order[:, :1].tolist()
    assert asked("top3") == order[:, :3].tolist()
    assert asked("top5") == order.tolist()
    assert asked("all") == [[0, 1, 2, 3, 4]] * 2
    assert asked(3) == asked("dog") == asked("DOG") == asked("3") == [[3], [3]]
    assert asked(["eel", 0]) == [[4, 0]] * 2
    assert asked(torch.tensor([1, 4])) == [[1], [4]]
    assert asked(torch.tensor([[1, 2], [4, 0]])) == [[1, 2], [4, 0]]


def test_the_choice_is_the_softmax_branch_s() -> None:
    model = wrapped("pooled-linear")
    with torch.no_grad():
        for parameter in model.sigmoid_head.parameters():
            parameter.neg_()
    logits = model.eval()(images())
    assert not torch.equal(logits.softmax.argmax(1), logits.sigmoid.argmax(1))
    found = [int(item.indices[0]) for item in model.explain(images())]
    assert found == logits.softmax.argmax(1).tolist()


def test_unknown_classes(model: DualBranch) -> None:
    with pytest.raises(ClassNotFound, match="no class is called 'doge'; near names: dog"):
        model.explain(photo(), "doge")
    with pytest.raises(ClassNotFound, match=r"class 5 does not exist; this model has classes 0\.\.4"):
        model.explain(photo(), [0, 5])


def test_numbers_of_each_class(model: DualBranch) -> None:
    batch = images(1, torch.float32)
    with torch.no_grad():
        logits = model.eval()(batch)
    (explanation,) = model.explain(batch, ["cat", "ant"])
    assert len(explanation) == 2
    assert [item.name for item in explanation] == ["cat", "ant"]
    cat = explanation[0]
    assert cat.index == 2
    assert cat.softmax_logit == pytest.approx(float(logits.softmax[0, 2]), rel=1e-5)
    assert cat.sigmoid_logit == pytest.approx(float(logits.sigmoid[0, 2]), rel=1e-5)
    assert cat.probability == pytest.approx(float(logits.softmax.softmax(1)[0, 2]), rel=1e-5)
    assert float(explanation.probabilities.sum()) == pytest.approx(1)
    assert torch.equal(cat.raw, explanation.raw[0])
    assert [item.index for item in explanation[::-1]] == [0, 2]
    assert explanation[-1].index == 0
    with pytest.raises(IndexError):
        explanation[2]


@pytest.mark.parametrize("kind", KINDS)
def test_residuals(kind: HeadKind) -> None:
    for explanation in wrapped(kind, dtype=torch.float32).explain(images(3, torch.float32), "all"):
        if kind in LINEAR:
            assert explanation.residuals is not None
            assert explanation.residuals.shape == (CLASSES,)
            assert explanation.residuals.max() < 1e-4
            assert explanation[1].residual == pytest.approx(float(explanation.residuals[1]))
        else:
            assert explanation.residuals is None
            assert explanation[1].residual is None


def test_a_map_in_logits_adds_up_to_the_logit(model: DualBranch) -> None:
    """In the photo's own pixels too, as the whole photo is squashed to a multiple of the grid."""
    wide = photo(SIZE[1] * 4, SIZE[0] * 4)
    (explanation,) = model.explain(wide, 2, sign="signed", normalize=None)
    bias = float(model.sigmoid_head.rows().bias.detach()[2])
    assert float(explanation[0].signed.mean()) + bias == pytest.approx(explanation[0].sigmoid_logit, abs=1e-5)
    assert float(explanation[0].map.mean()) + bias == pytest.approx(explanation[0].sigmoid_logit, abs=1e-4)


# --- maps --------------------------------------------------------------------------------------------------------


def test_maps_are_raw_maps_resized_once_then_normalized(model: DualBranch) -> None:
    picture = photo(70, 90)
    for sign in ("positive", "signed"):
        (explanation,) = model.explain(picture, 1, sign=sign, normalize="minmax")
        resized = functional.interpolate(explanation.raw[None], (90, 70), mode="bilinear", align_corners=False)[
            0, 0
        ].numpy()
        expected = (resized - resized.min()) / (resized.max() - resized.min())
        np.testing.assert_allclose(explanation.heatmap(), expected, atol=1e-4)
        np.testing.assert_allclose(explanation[0].logit_map(), resized, atol=1e-5)
        np.testing.assert_allclose(explanation[0].heatmap("max"), resized.clip(min=0) / resized.max(), atol=1e-4)


def test_sizes(model: DualBranch) -> None:
    (explanation,) = model.explain(photo(), size=(11, 13))
    assert explanation[0].map.shape == (11, 13)
    assert explanation.heatmap().shape == (11, 13)
    assert explanation[0].logit_map().shape == (40, 50)
    assert explanation[0].logit_map((5, 6)).shape == (5, 6)
    (logits,) = model.explain(photo(), size=(11, 13), normalize=None)
    assert logits[0].map.shape == (11, 13)


def test_no_normalization_gives_logits(brightness: DualBranch) -> None:
    (explanation,) = brightness.explain(lit(64, 64, (0, 0, 64, 64)), ["bright", "dark"], sign="signed", normalize=None)
    np.testing.assert_allclose(explanation[0].map, 2, rtol=1e-5)
    np.testing.assert_allclose(explanation[1].map, -3, rtol=1e-5)
    assert explanation[0].sigmoid_logit == pytest.approx(2, rel=1e-5)


def test_signs(brightness: DualBranch) -> None:
    """Evidence against a class: negative in logits, turned over in a heat map."""
    spot = lit(64, 64, (32, 16, 48, 32))

    def of(name: str, sign: Sign, normalize: Normalization | None) -> NDArray[np.float32]:
        return brightness.explain(spot, name, sign=sign, normalize=normalize)[0][0].map

    assert of("bright", "positive", None).max() == pytest.approx(2, rel=1e-4)
    assert not of("bright", "negative", None).any()
    assert of("dark", "negative", None).min() == pytest.approx(-3, rel=1e-4)
    assert not of("dark", "positive", None).any()
    assert not of("dark", "positive", "max").any()
    against = of("dark", "negative", "max")
    assert against.max() == 1
    assert against[24, 40] == 1
    assert against[50, 10] == 0
    (explanation,) = brightness.explain(spot, ["bright", "dark"])
    assert [item.is_flat for item in explanation] == [False, True]
    assert explanation[1].boxes() == []


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize(
    ("width", "height", "box"),
    [
        (200, 120, (80, 40, 120, 80)),
        (120, 200, (50, 100, 90, 150)),
        (300, 300, (90, 120, 180, 240)),
        (40, 44, (12, 12, 28, 26)),
        (3000, 1800, (1400, 600, 2000, 1300)),
    ],
)
def test_a_bright_box_is_found_where_it_is_under_every_fit(
    brightness: DualBranch, fit: Fit, width: int, height: int, box: tuple[int, int, int, int]
) -> None:
    (explanation,) = brightness.explain(lit(width, height, box), "bright", fit=fit)
    (found, *rest) = explanation.boxes(0.5)
    assert iou((found.x0, found.y0, found.x1, found.y1), box) > 0.7
    assert found.score > 0.6
    assert not rest
    shown = explanation.heatmap()
    assert shown.shape == (height, width)
    inside = shown[box[1] : box[3], box[0] : box[2]].mean()
    assert inside > 0.7
    assert inside > 5 * (shown.sum() - shown[box[1] : box[3], box[0] : box[2]].sum()) / shown.size


def test_what_a_crop_leaves_out_has_no_heat(brightness: DualBranch) -> None:
    (explanation,) = brightness.explain(lit(200, 60, (0, 0, 200, 60)), "bright", fit="crop")
    shown = explanation.heatmap()
    assert shown[30, 100] == pytest.approx(1, abs=1e-5)
    assert not shown[:, :60].any()
    assert not shown[:, 140:].any()
    with pytest.raises(ChoiceError, match="fit='stretch'"):
        brightness.explain(photo(), fit="stretch")  # type: ignore[arg-type]


def test_clamps(model: DualBranch) -> None:
    silu = wrapped("pooled-linear", nn.SiLU)
    auto, weights, contributions = (
        maps(silu.explain(images(), "all", clamp=clamp)) for clamp in ("auto", "weights", "contributions")
    )
    assert torch.equal(auto, contributions)
    assert not torch.allclose(auto, weights)
    relu = wrapped("pooled-linear", nn.ReLU)
    auto, weights, contributions = (
        maps(relu.explain(images(), "all", clamp=clamp)) for clamp in ("auto", "weights", "contributions")
    )
    assert torch.equal(auto, weights)
    torch.testing.assert_close(auto, contributions)


# --- files -------------------------------------------------------------------------------------------------------


def test_saving_arrays(model: DualBranch, tmp_path: Path) -> None:
    (explanation,) = model.explain(photo(), "bee", sign="positive")
    explanation.save(tmp_path / "new" / "maps.npz")
    with np.load(tmp_path / "new" / "maps.npz") as file:
        assert set(file.files) == {"heatmap", "signed", "raw"}
        np.testing.assert_array_equal(file["heatmap"], explanation.heatmap())
        np.testing.assert_array_equal(file["signed"], explanation[0].signed.numpy())
        np.testing.assert_array_equal(file["raw"], explanation[0].raw.numpy())
        assert file["raw"].shape == GRID
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["maps.npz"]


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "PNG"])
def test_saving_pictures(model: DualBranch, tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"overlay.{suffix}"
    (explanation,) = model.explain(photo(), "bee")
    explanation.save(file)
    with Image.open(file) as written:
        assert written.size == (50, 40)
        assert written.format == {"jpg": "JPEG"}.get(suffix, suffix.upper())
        if suffix == "png":
            assert np.array_equal(np.asarray(written.convert("RGB")), np.asarray(explanation.overlay()))
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_an_overlay_shows_heat_where_the_heat_is(brightness: DualBranch) -> None:
    picture = lit(100, 60, (60, 20, 80, 40))
    kept = np.asarray(picture).copy()
    (explanation,) = brightness.explain(picture, "bright")
    shown = np.asarray(explanation[0].overlay(box=False), np.int16)
    assert shown.shape == (60, 100, 3)
    assert np.array_equal(np.asarray(picture), kept)
    grey = shown[5, 5]
    assert grey.max() - grey.min() <= 2
    hot = shown[30, 70]
    assert hot.max() - hot.min() > 30
    boxed = np.asarray(explanation[0].overlay(box=True), np.int16)
    assert (boxed != shown).any()
    assert np.array_equal(boxed[:5, :5], shown[:5, :5])
    none = np.asarray(brightness.explain(picture, "dark")[0].overlay(), np.int16)
    assert (none.max(2) - none.min(2)).max() <= 2


def test_a_tensor_s_overlay_is_its_picture(model: DualBranch) -> None:
    tensor = PREPROCESSING.normalize(photo(SIZE[1], SIZE[0])).unsqueeze(0)
    (explanation,) = model.explain(tensor, "bee")
    assert explanation.overlay().size == (SIZE[1], SIZE[0])
    assert np.array_equal(np.asarray(explanation.picture()), np.asarray(photo(SIZE[1], SIZE[0])))


def test_a_damaged_write_leaves_the_old_file(
    model: DualBranch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "maps.npz"
    (explanation,) = model.explain(photo(), "bee")
    explanation.save(file)
    before = file.read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(OSError, match="disk full"):
        explanation.save(file)
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["maps.npz"]


def test_explanations_do_not_hold_the_model_s_memory(model: DualBranch) -> None:
    """Explaining again does not change what came before."""
    (first,) = model.explain(images(1, torch.float32), "all", sign="signed")
    kept = first.raw.clone()
    model.explain(images(1, torch.float32, seed=9), "all", sign="signed")
    assert torch.equal(first.raw, kept)
    assert not first.raw.requires_grad


def test_preprocessing_of_the_model_is_used() -> None:
    bright = Preprocessing(size=SIZE, mean=(0, 0, 0), std=(1, 1, 1))
    one, other = (
        maps(dualcam.wrap(tiny("mlp"), preprocessing=item).explain(photo(), 0, sign="signed"))
        for item in (bright, replace(bright, mean=(0.5, 0.5, 0.5)))
    )
    assert not torch.allclose(one, other)


def test_by_hand_arguments_are_refused_with_a_directory(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="layer, nonnegative can not be given for the directory"):
        dualcam.wrap(tmp_path, layer="features", nonnegative=True)
