"""Panels and their colors: what is drawn is what the numbers say."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import nn

import dualcam
from dualcam import methods
from dualcam.compose import make_plan, make_sheets, method_label
from dualcam.data.prepared import prepare_tensor
from dualcam.data.preprocessing import Placement
from dualcam.data.stream import Loader
from dualcam.errors import ClassNotFound
from dualcam.explainer import check_options
from dualcam.explainer import explain as explain_photos
from dualcam.overlay import GREEN, HEAT, SIGNED, color_bar, color_table, draw_box, heat_over, signed_over
from dualcam.panel import draw_panel, fitted, font, number, scale_ends, write_panel
from dualcam.sheet import MapTile, Row, Sheet, load_sheet, save_sheet
from dualcam.types import Box, HeadKind
from tests.models import KINDS, PREPROCESSING, images, tiny, wrapped

GREY = Image.new("RGB", (60, 40), (128, 128, 128))


def ramp(low: float, high: float) -> NDArray[np.float32]:
    return np.broadcast_to(np.linspace(low, high, 60, dtype=np.float32), (40, 60)).copy()


def pixels(image: Image.Image) -> NDArray[np.int64]:
    return np.asarray(image).astype(np.int64)


def sheet(*tiles: MapTile, size: tuple[int, int] = (320, 200), rows: int = 1, name: str = "a/photo.jpg") -> Sheet:
    placement = Placement(size, (32, 32), (32 / size[0], 32 / size[1]), (0.0, 0.0))
    row = Row("a class   50.0 %", "softmax logit 1.00   sigmoid logit 2.00", tiles)
    return Sheet(name, Image.new("RGB", size, (90, 120, 150)), placement, (), (row,) * rows, (), "logits")


def heat(values: Any, **fields: Any) -> MapTile:
    return MapTile("heat", "heat", np.asarray(values, np.float32), **fields)


def test_no_heat_leaves_the_picture() -> None:
    np.testing.assert_array_equal(pixels(heat_over(GREY, np.zeros((40, 60), np.float32))), 128)


def test_heat_grows_brighter() -> None:
    drawn = pixels(heat_over(GREY, ramp(0, 1)))[0].sum(1)
    assert drawn[-1] > drawn[30] > drawn[8]
    assert (np.diff(color_table(HEAT).sum(1)) > 0).all()


def test_zero_is_neutral_and_in_the_middle() -> None:
    drawn = pixels(signed_over(GREY, np.zeros((40, 60), np.float32), 3))
    np.testing.assert_array_equal(drawn, 128)
    assert np.ptp(color_table(SIGNED)[127:129], axis=1).max() < 8
    drawn = pixels(signed_over(GREY, ramp(-2, 2), 2))
    assert (drawn[:, -1, 0] > drawn[:, -1, 2] + 60).all(), "red for"
    assert (drawn[:, 0, 2] > drawn[:, 0, 0] + 60).all(), "blue against"


def test_the_scale_of_a_signed_map_is_symmetric() -> None:
    np.testing.assert_array_equal(
        pixels(signed_over(GREY, ramp(0, 2), 4))[0, -1], pixels(signed_over(GREY, ramp(0, 2) * 3, 12))[0, -1]
    )
    np.testing.assert_array_equal(
        pixels(signed_over(GREY, ramp(0, 9), 4))[0, -1], pixels(signed_over(GREY, ramp(0, 4), 4))[0, -1]
    )


def test_color_bar() -> None:
    bar = pixels(color_bar(SIGNED, 101, 5))
    assert bar.shape == (5, 101, 3)
    np.testing.assert_array_equal(bar[0, 0], SIGNED[0])
    np.testing.assert_array_equal(bar[4, -1], SIGNED[-1])


@pytest.mark.parametrize("box", [Box(10, 5, 30, 25, 1.0), Box(0, 0, 60, 40, 1.0), Box(55, 35, 60, 40, 1.0)])
def test_boxes_are_drawn_inside(box: Box) -> None:
    image = GREY.copy()
    draw_box(image, box)
    green = np.argwhere((pixels(image) == GREEN).all(2))
    assert (green.min(0) == (box.y0, box.x0)).all()
    assert (green.max(0) == (box.y1 - 1, box.x1 - 1)).all()


def test_a_box_of_a_large_photo_is_drawn_on_a_small_picture() -> None:
    image = GREY.copy()
    draw_box(image, Box(1000, 500, 3000, 2500, 1.0), (60 / 6000, 40 / 4000))
    green = np.argwhere((pixels(image) == GREEN).all(2))
    assert (green.min(0) == (5, 10)).all() and (green.max(0) == (24, 29)).all()


@pytest.mark.parametrize("size", [(320, 200), (200, 320), (320, 1), (1, 320), (3, 320)])
def test_panels_of_any_shape(size: tuple[int, int]) -> None:
    values = np.linspace(-1, 2, 12).reshape(3, 4)
    tiles = (heat(values), heat(values, box=Box(0, 0, *size, 1.0)), heat(values, signed=True))
    one, three = draw_panel(sheet(*tiles, size=size)), draw_panel(sheet(*tiles, size=size, rows=3))
    assert one.width == three.width >= 4 * max(size[0], 210)
    assert three.height > 2 * one.height
    assert one.mode == "RGB"


def test_the_box_is_green_on_its_tile_only() -> None:
    box = Box(100, 50, 200, 150, 1.0)
    drawn = pixels(draw_panel(sheet(heat(np.ones((4, 4))), heat(np.ones((4, 4)), box=box))))
    green = np.argwhere((drawn == GREEN).all(2))
    assert len(green)
    left = green[:, 1].min()
    assert left > 2 * 320
    assert np.ptp(green[:, 1]) == 99 and np.ptp(green[:, 0]) == 99


@pytest.mark.parametrize("limits", [None, {"heat": 5.0}])
@pytest.mark.parametrize("values", [np.zeros((3, 3)), np.full((3, 3), -2.0)])
def test_flat_maps_say_so(
    values: NDArray[np.float64], limits: dict[str, float] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    original = ImageDraw.ImageDraw.text

    def text(self: ImageDraw.ImageDraw, place: Any, words: str, *rest: Any, **options: Any) -> None:
        written.append(words)
        original(self, place, words, *rest, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    draw_panel(sheet(heat(values)), limits)
    assert "no positive evidence" in written
    written.clear()
    draw_panel(sheet(heat(np.eye(3))), limits)
    assert "no positive evidence" not in written
    assert any(words.endswith(" logits") for words in written)
    assert ("5 logits" in written) == (limits is not None)


def test_ends_of_scales() -> None:
    values = np.array([[-3, 1], [0, 2]], np.float32)
    assert scale_ends(heat(values), values, None) == (0, 2)
    assert scale_ends(heat(values, signed=True), values, None) == (-3, 3)
    assert scale_ends(heat(values, normalization="minmax"), values, None) == (-3, 2)
    assert scale_ends(heat(values), values, {"heat": 7}) == (0, 7)
    assert scale_ends(heat(values, signed=True), values, {"heat": 7}) == (-7, 7)
    assert scale_ends(heat(-abs(values)), -abs(values), None) == (0, 0)


def test_a_shared_scale_makes_weaker_maps_paler() -> None:
    strong, weak = (draw_panel(sheet(heat(np.full((2, 2), top))), {"heat": 10.0}) for top in (10, 2))
    spot = (20 + 320 + 16 + 100, 34 + 34 + 22 + 100)
    assert sum(strong.getpixel(spot)) > sum(weak.getpixel(spot)) + 50  # type: ignore[arg-type]
    alone = draw_panel(sheet(heat(np.full((2, 2), 2))))
    assert alone.getpixel(spot) == strong.getpixel(spot)


def test_texts_fit() -> None:
    long = "a very long name of a photo, again and again, " * 10
    cut = fitted(long, font(13), 200)
    assert cut.endswith("…") and font(13).getlength(cut) <= 200
    assert fitted("short", font(13), 200) == "short"
    draw_panel(sheet(heat(np.eye(3)), name="no utf-8: caf\udce9.jpg"))
    draw_panel(sheet(heat(np.eye(3)), name=long, size=(1, 320)))


@pytest.mark.parametrize(
    ("value", "sign", "text"),
    [(12.345, True, "+12.3"), (-0.5, True, "−0.5"), (0.0, True, "0"), (-0.0, False, "0"), (3, False, "3")],
)
def test_numbers(value: float, sign: bool, text: str) -> None:
    assert number(value, sign=sign) == text


def photos(folder: Path, count: int = 3) -> list[str]:
    rng = np.random.default_rng(1)
    paths = []
    for position in range(count):
        path = folder / f"{position}.png"
        Image.fromarray(rng.integers(0, 255, (20 + position, 30, 3), np.uint8)).save(path)
        paths.append(str(path))
    return paths


def sheets_of(
    folder: Path, kind: HeadKind, classes: Any = "top2", *, compare: bool = False, **options: Any
) -> Sequence[Sheet]:
    model = wrapped(kind)
    plan = make_plan(model, check_options(model, **options), classes, compare=compare)
    load = Loader(model.preprocessing)
    made = make_sheets(model, [item for item in map(load, photos(folder)) if not hasattr(item, "error")], plan)
    assert all(made)
    return [item for item in made if item]


@pytest.mark.parametrize("kind", KINDS)
def test_sheets_hold_what_explain_returns(tmp_path: Path, kind: HeadKind) -> None:
    model = wrapped(kind)
    sheets = sheets_of(tmp_path, kind)
    sigmoid = explain_photos(model, photos(tmp_path), "top2")
    softmax = explain_photos(
        model,
        photos(tmp_path),
        "top2",
        branch="softmax",
        sign="signed",
        method=None if model.softmax_head.is_linear else "grad-cam",
    )
    for made, main, usual in zip(sheets, sigmoid, softmax, strict=True):
        assert len(made.rows) == 2
        for row, record, evidence, other in zip(made.rows, made.classes, main, usual, strict=True):
            np.testing.assert_allclose(row.tiles[0].values, other.raw.numpy(), rtol=1e-5)
            np.testing.assert_allclose(row.tiles[1].values, evidence.raw.numpy(), rtol=1e-5)
            np.testing.assert_allclose(row.tiles[2].values, evidence.signed.numpy(), rtol=1e-5)
            assert record["index"] == evidence.index
            assert record["probability"] == pytest.approx(evidence.probability)
            boxes = [[box.x0, box.y0, box.x1, box.y1] for box in evidence.boxes()]
            assert [box[:4] for box in record["boxes"]] == boxes


def test_one_run_of_the_model_a_batch(tmp_path: Path) -> None:
    model = wrapped("pooled-linear")
    runs = []
    model.classifier.register_forward_hook(lambda *_: runs.append(1))
    plan = make_plan(model, check_options(model), "all", compare=True)
    load = Loader(model.preprocessing)
    batch: Any = [load(path) for path in photos(tmp_path)]
    assert len(make_sheets(model, batch, plan)) == 3
    assert len(runs) == 1


@pytest.mark.parametrize(("kind", "methods"), [("pooled-linear", 5), ("mlp", 4)])
def test_compare_leaves_out_what_does_not_apply(tmp_path: Path, kind: HeadKind, methods: int) -> None:
    made = sheets_of(tmp_path, kind, compare=True)[0]
    assert [len(row.tiles) for row in made.compared] == [methods, methods]
    assert draw_panel(made).height > draw_panel(replace(made, compared=())).height
    assert made.rows[0].tiles[0].title == ("Softmax CAM" if kind == "pooled-linear" else "Softmax Grad-CAM")


def test_negative_evidence_is_turned_over(tmp_path: Path) -> None:
    positive, negative = (sheets_of(tmp_path, "pooled-linear", sign=sign)[0] for sign in ("positive", "negative"))
    tile = negative.rows[0].tiles[1]
    assert (tile.values >= 0).all() and "against" in tile.title and tile.empty == "no negative evidence"
    signed = negative.rows[0].tiles[2].values
    np.testing.assert_allclose(positive.rows[0].tiles[1].values - tile.values, signed, atol=1e-5)


def test_scores_that_are_not_finite_make_no_sheet(tmp_path: Path) -> None:
    model = wrapped("pooled-linear")
    load = Loader(model.preprocessing)
    batch: Any = [load(path) for path in photos(tmp_path)]
    batch[1].tensor[:] = torch.nan
    made = make_sheets(model, batch, make_plan(model, check_options(model), "top1"))
    assert [item is None for item in made] == [False, True, False]


def test_activations_that_are_not_finite_make_no_sheet_though_scores_are(tmp_path: Path) -> None:
    class Mending(nn.Module):
        def forward(self, activations: torch.Tensor) -> torch.Tensor:
            return torch.nan_to_num(activations)

    classifier = tiny("mlp")
    classifier.head = nn.Sequential(Mending(), *classifier.head)
    model = dualcam.wrap(classifier, layer="features", head=classifier.head, preprocessing=PREPROCESSING)
    load = Loader(model.preprocessing)
    batch: Any = [load(path) for path in photos(tmp_path)]
    batch[1].tensor[:, 3, 3] = torch.nan
    assert torch.isfinite(model(batch[1].tensor[None].double()).sigmoid).all()
    made = make_sheets(model, batch, make_plan(model, check_options(model), "top1"))
    assert [item is None for item in made] == [False, True, False]


def test_unknown_classes_are_known_before_the_first_photo() -> None:
    model = wrapped("pooled-linear")
    with pytest.raises(ClassNotFound):
        make_plan(model, check_options(model), [99])


def test_a_panel_shows_ten_classes_at_most(tmp_path: Path) -> None:
    made = sheets_of(tmp_path, "pooled-linear", [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1])[0]
    assert (len(made.rows), len(made.classes)) == (10, 12)


def test_sheets_come_back_from_disk(tmp_path: Path) -> None:
    made = sheets_of(tmp_path, "pooled-linear", compare=True)[1]
    save_sheet(made, tmp_path / "sheet.npz")
    back = load_sheet(tmp_path / "sheet.npz")
    assert (back.photo, back.placement, back.classes, back.unit) == (
        made.photo,
        made.placement,
        made.classes,
        made.unit,
    )
    assert back.peaks() == made.peaks()
    assert draw_panel(back).tobytes() == draw_panel(made).tobytes()
    assert list(tmp_path.glob(".*")) == []


def test_panels_are_written_whole(tmp_path: Path) -> None:
    image = draw_panel(sheet(heat(np.eye(3))))
    write_panel(image, tmp_path / "ä b.png")
    with Image.open(tmp_path / "ä b.png") as back:
        np.testing.assert_array_equal(np.asarray(back), np.asarray(image))
    assert [path.name for path in tmp_path.iterdir()] == ["ä b.png"]


def test_a_panel_is_drawn_fast() -> None:
    values = np.random.default_rng(0).normal(size=(7, 7))
    one = sheet(heat(values), heat(values, box=Box(10, 10, 90, 90, 1.0)), heat(values, signed=True))
    draw_panel(one)
    took = []
    for _ in range(5):
        start = time.process_time()
        draw_panel(one)
        took.append(time.process_time() - start)
    assert min(took) < 0.1


@pytest.mark.parametrize(
    ("options", "unit", "title"),
    [
        ({"method": "cam"}, "logits", "Sigmoid CAM"),
        ({"method": "hirescam", "score": "finer"}, "logits", "Sigmoid HiResCAM"),
        ({"method": "grad-cam", "score": "log-odds"}, "log-odds", "Sigmoid Grad-CAM"),
        ({"method": "grad-cam++"}, "", "Sigmoid Grad-CAM++"),
        ({"method": "score-cam"}, "", "Sigmoid Score-CAM"),
        ({"layers": ("features.2", "features.5")}, "", "Sigmoid LayerCAM of 2 layers"),
    ],
)
def test_maps_say_what_they_are_and_in_which_unit(options: Any, unit: str, title: str) -> None:
    model = wrapped("pooled-linear", dtype=torch.float32)
    plan = make_plan(model, check_options(model, **options), "top1")
    (sheet,) = make_sheets(model, prepare_tensor(model.preprocessing, images(1, torch.float32)), plan)
    assert sheet is not None
    usual, main, signed = sheet.rows[0].tiles
    assert (usual.unit, main.unit, sheet.unit) == ("logits", unit, unit)
    assert usual.title == "Softmax CAM"
    assert main.title.startswith(f"{title}, ")
    assert signed.unit is None


def test_methods_have_their_papers_names() -> None:
    usual = check_options(wrapped("pooled-linear"))
    names = {name: method_label(replace(usual, method=each)) for name, each in methods.available().items()}
    assert names["smooth-grad-cam++"] == "Smooth Grad-CAM++"
    assert {"CAM", "Grad-CAM", "XGrad-CAM", "LayerCAM", "HiResCAM", "IS-CAM", "SS-CAM", "LeGrad"} <= set(names.values())
