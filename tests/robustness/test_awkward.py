"""What people pass by mistake, or as they have it: a right result, or an error that says the way out."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

import dualcam
from dualcam import DualBranch, Preprocessing
from dualcam.errors import ChoiceError, ClassNotFound, ModelError, PhotoError, StructureNotFound
from dualcam.maps import evidence_maps
from tests.models import PREPROCESSING, SIZE, images, maps, tiny, wrapped
from tests.observe import changed, snapshot


@pytest.fixture(scope="module")
def model() -> DualBranch:
    return wrapped("mlp", dtype=torch.float32)


def picture(width: int = 40, height: int = 30, mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


# --- classes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "index"),
    [
        (np.int64(2), [2]),
        (torch.tensor(2), [2]),
        (np.array([2, 1]), [2, 1]),
        ([np.int32(2), torch.tensor(1), "3"], [2, 1, 3]),
        (range(3), [0, 1, 2]),
        ((item for item in (0, 3)), [0, 3]),
        ([1, 1, 2], [1, 1, 2]),
        (torch.tensor([2, 2, 2], dtype=torch.uint8), [2]),
    ],
)
def test_indices_of_every_type(model: DualBranch, given: Any, index: list[int]) -> None:
    """Of three photos in batches of two: what can be read once only must do for both."""
    found = model.explain([picture()] * 3, given, batch_size=2)
    assert [explanation.indices.tolist() for explanation in found] == [index] * 3


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (True, ChoiceError, r"expected an index or a name.*got True \(bool\)"),
        ([np.True_], ChoiceError, "expected an index or a name"),
        (2.0, ChoiceError, r"got 2.0 \(float\)"),
        ([None], ChoiceError, "NoneType"),
        ([[1, 2], [3, 4]], ChoiceError, r"a tensor \[B\] or \[B, K\] of each image's indices"),
        (torch.tensor([1.7]), ChoiceError, "of an integer type; got torch.float32"),
        (torch.tensor([[True, False]]), ChoiceError, r"torch.bool; of a mask .*nonzero"),
        (torch.zeros(1, 0, dtype=torch.long), ChoiceError, r"got \(1, 0\)"),
        ("²", ClassNotFound, "no class names"),
        ("top²", ClassNotFound, "no class names"),
        ("--3", ClassNotFound, "no class names"),
    ],
)
def test_what_is_no_class(model: DualBranch, given: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        model.explain(images(1, torch.float32), given)


# --- images ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        torch.zeros(3, *SIZE),
        torch.zeros(1, 1, *SIZE),
        torch.zeros(1, 4, *SIZE),
        torch.zeros(1, *SIZE, 3),
        torch.zeros(1, 3, *SIZE, dtype=torch.uint8),
        torch.zeros(1, 3, *SIZE, dtype=torch.complex64),
        torch.zeros(1, 3, *SIZE).to_sparse(),
    ],
)
def test_tensors_that_are_no_images(model: DualBranch, given: Tensor) -> None:
    with pytest.raises(ChoiceError, match=r"floating point \[B, 3, H, W\].*got torch"):
        model.explain(given)


@pytest.mark.parametrize(
    "given",
    [
        None,
        np.zeros((*SIZE, 3), np.uint8),
        [torch.zeros(3, *SIZE)],
        [picture(), np.zeros((*SIZE, 3), np.uint8)],
        b"photo.jpg",
        io.BytesIO(b"photo"),
    ],
)
def test_what_is_no_photo(model: DualBranch, given: Any) -> None:
    with pytest.raises(ChoiceError, match=r"PIL images or paths.*Image\.fromarray.*Image\.open.*torch\.stack"):
        model.explain(given)


def test_no_image_at_all(model: DualBranch) -> None:
    assert model.explain([]) == model.explain(torch.zeros(0, 3, *SIZE), "all") == []
    with pytest.raises(ChoiceError, match=r"at least one; got a batch \(0, 3"):
        evidence_maps(model, torch.zeros(0, 3, *SIZE), 0)
    with pytest.raises(ChoiceError, match=r"got Image"):
        evidence_maps(model, picture(), 0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "La", "P", "RGBA", "RGBa", "CMYK", "YCbCr", "LAB", "HSV", "I", "I;16", "F"]
)
def test_pictures_of_every_mode(model: DualBranch, mode: str) -> None:
    directly = {"La": "LA", "LAB": "", "I;16": "", "RGBa": "RGBA"}
    given = Image.new(mode, (40, 30)) if directly.get(mode) == "" else picture(mode=directly.get(mode, mode))
    (explanation,) = model.explain(given.convert(mode))
    assert explanation[0].map.shape == (30, 40)
    assert explanation.overlay().size == (40, 30)


@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
@pytest.mark.parametrize("size", [(1, 1), (2000, 1), (1, 700)])
def test_pictures_of_one_pixel_or_one_row(model: DualBranch, size: tuple[int, int], fit: Any) -> None:
    (explanation,) = model.explain(picture(*size), fit=fit)
    assert explanation[0].is_finite
    assert explanation[0].map.shape == size[::-1]
    assert all(box.x1 <= size[0] and box.y1 <= size[1] for box in explanation.boxes())
    explanation.overlay()


def test_pictures_that_can_not_be_read(model: DualBranch, tmp_path: Path) -> None:
    with pytest.raises(PhotoError, match=r"no pixels \(0 x 5\)"):
        model.explain(Image.new("RGB", (0, 5)))
    picture(200, 200).save(tmp_path / "photo.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "photo.png").read_bytes()[:60_000])
    with Image.open(tmp_path / "half.png") as half, pytest.raises(PhotoError, match=r"can not be read: .*truncated"):
        model.explain(half)
    closed = Image.open(tmp_path / "photo.png")
    closed.close()
    with pytest.raises(PhotoError, match=r"can not be read: .*closed"):
        model.explain(closed)


def test_paths_of_a_generator_with_spaces_and_other_letters(model: DualBranch, tmp_path: Path) -> None:
    folder = tmp_path / "ein Ordner, süß 写真"
    folder.mkdir()
    for name in ("a b.png", "ü.png", "猫.png"):
        picture().save(folder / name)
    found = model.explain((path for path in sorted(folder.iterdir())), batch_size=2)
    assert [explanation.source for explanation in found] == [str(path) for path in sorted(folder.iterdir())]


# --- options -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 64}, r"size must be \(height, width\); got 64"),
        ({"size": (0, 5)}, "size must be at least 1; got 0"),
        ({"size": (6.5, 7)}, "size must be a whole number; got 6.5"),
        ({"method": ""}, "method='' is not known"),
        ({"method": "GradCAM"}, "choose one of .*'grad-cam'"),
        ({"method": "score-cam", "tuning": {"top_k": "3"}}, "top_k must be a whole number; got '3'"),
        ({"method": "is-cam", "tuning": {"samples": 2.5}}, "samples must be a whole number; got 2.5"),
        ({"method": "ss-cam", "tuning": {"noise": float("nan")}}, "noise must lie in"),
        ({"method": "ss-cam", "tuning": {"noise": "2"}}, "noise must lie in"),
        ({"layers": "features.2"}, r"one layer; name several, or .*layer='features\.2'"),
        ({"layers": [nn.ReLU(), "features.2"]}, "layers are paths.*got ReLU"),
    ],
)
def test_options_of_other_types(model: DualBranch, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ChoiceError, match=message):
        model.explain(images(1, torch.float32), **options)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": 32}, r"size must be \(height, width\); got 32"),
        ({"size": (0, 32)}, "at least 1; got 0"),
        ({"mean": (0.5,)}, r"mean must be three numbers.*\(0\.5,\)"),
        ({"std": (0.5, 0, 0.5)}, "std must be three numbers.*none of them 0"),
        ({"crop_share": 0.0}, r"crop_share must lie in \(0, 1\]"),
    ],
)
def test_preprocessing_that_can_not_be(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ChoiceError, match=message):
        Preprocessing(**fields)


@pytest.mark.parametrize("name", ["overlay", "overlay.npy", "overlay.heat"])
def test_a_suffix_that_says_nothing_is_refused(model: DualBranch, tmp_path: Path, name: str) -> None:
    with pytest.raises(ChoiceError, match=r"no suffix of a picture .*nor \.npz"):
        model.explain(picture())[0].save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_explanations_are_equal_to_themselves_only(model: DualBranch) -> None:
    """Two of them are compared where a list is searched: tensors must not be asked for one truth."""
    one, other = model.explain(images(2, torch.float32))
    assert one == one
    assert one != other
    assert [other, one].index(one) == 1
    assert len({one, other}) == 2


# --- models ------------------------------------------------------------------------------------------------------


def small(**changes: nn.Module) -> nn.Sequential:
    """Return a seeded pooled linear classifier whose modules have numbers for names."""
    torch.manual_seed(0)
    layers = {
        "first": nn.Conv2d(3, 8, 3, 2, 1),
        "second": nn.Conv2d(8, 16, 3, 2, 1),
        "pool": nn.AdaptiveAvgPool2d(1),
        "last": nn.Linear(16, 5),
    } | changes
    return nn.Sequential(
        layers["first"], nn.ReLU(), layers["second"], nn.ReLU(), layers["pool"], nn.Flatten(), layers["last"]
    ).eval()


def weight_normed() -> nn.Module:
    model = small()
    parametrizations.weight_norm(model[6])
    parametrizations.weight_norm(model[2])
    return model


def spectral_normed() -> nn.Module:
    """Return a model whose norms move their buffers at each forward in train mode."""
    model = small()
    parametrizations.spectral_norm(model[6])
    parametrizations.spectral_norm(model[2])
    return model.train()


def pruned() -> nn.Module:
    model = small()
    prune.l1_unstructured(model[6], "weight", 0.5)  # type: ignore[no-untyped-call]
    return model


class Shared(nn.Module):
    """Two last layers with one weight, of which one is used, pooled by a function, with a branch on the shape."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU())
        self.down = nn.Conv2d(16, 16, 3, 2, 1)
        self.fc, self.twin = nn.Linear(16, 5), nn.Linear(16, 5)
        self.twin.weight = self.fc.weight

    def forward(self, batch: Tensor) -> Tensor:
        features = self.body(batch)
        if features.shape[-1] > 1000:
            features = self.down(features)
        logits: Tensor = self.fc(features.mean((2, 3)))
        return logits


class WithNumbers(nn.Module):
    """A model whose first parameter is a table of whole numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.arange(3), requires_grad=False)
        self.body = small()

    def forward(self, batch: Tensor) -> Tensor:
        logits: Tensor = self.body(batch)
        return logits


MODELS: dict[str, Callable[[], nn.Module]] = {
    "unnamed": small,
    "weight norm": weight_normed,
    "spectral norm": spectral_normed,
    "pruned": pruned,
    "shared": lambda: Shared().eval(),
    "whole numbers": WithNumbers,
    "fx": lambda: torch.fx.symbolic_trace(small()),
    "data parallel": lambda: nn.DataParallel(small()),
    "as many channels as classes and cells": lambda: small(second=nn.Conv2d(8, 8, 3, 1, 1), last=nn.Linear(8, 8)),
    "max pooling": lambda: small(pool=nn.AdaptiveMaxPool2d(1)),
    "one class": lambda: small(last=nn.Linear(16, 1)),
}


@pytest.mark.parametrize("name", list(MODELS))
def test_models_as_people_build_them(name: str) -> None:
    torch.manual_seed(0)
    module = MODELS[name]()
    before = snapshot(module)
    batch = images(2, torch.float32)
    model = dualcam.wrap(module, preprocessing=PREPROCESSING)
    for branch in ("softmax", "sigmoid"):
        found = maps(model.explain(batch, "top2", branch=branch, method="grad-cam", sign="signed"))
        assert found.isfinite().all()
        assert found.any()
    assert changed(before, snapshot(module)) == []
    assert torch.equal(model.eval()(batch).softmax, module(batch))


def test_modules_without_weights_yet_get_them_from_the_probe() -> None:
    lazy = small(first=nn.LazyConv2d(8, 3, 2, 1), last=nn.LazyLinear(5))
    assert maps(dualcam.wrap(lazy, preprocessing=PREPROCESSING).explain(images(1, torch.float32))).isfinite().all()


def quantized() -> nn.Module:
    model: nn.Module = torch.ao.quantization.quantize_dynamic(  # type: ignore[no-untyped-call]
        small(), {nn.Linear}, dtype=torch.qint8
    )
    return model


def traced() -> nn.Module:
    model: nn.Module = torch.jit.trace(small(), torch.zeros(1, 3, *SIZE))  # type: ignore[no-untyped-call]
    return model


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning", "ignore:.*:FutureWarning", "ignore:.*:UserWarning")
@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: torch.jit.script(small()), "TorchScript.*wrap the torch.nn.Module"),
        (traced, "TorchScript.*wrap the torch.nn.Module"),
        (lambda: torch.jit.freeze(torch.jit.script(small())), "TorchScript.*wrap the torch.nn.Module"),
        (lambda: small().to("meta"), "meta device.*load its weights"),
        (quantized, "no gradient comes through the head.*quantized.*as it was before"),
        (lambda: small(first=nn.Conv2d(1, 8, 3)), "1 channels.*forward="),
    ],
)
def test_models_that_can_not_be_explained(build: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        dualcam.wrap(build(), preprocessing=PREPROCESSING)


def test_a_model_of_grey_images_needs_a_forward_of_its_own() -> None:
    model = dualcam.wrap(
        small(first=nn.Conv2d(1, 8, 3, 2, 1)),
        preprocessing=PREPROCESSING,
        forward=lambda module, batch: module(batch.mean(1, keepdim=True)),
    )
    assert maps(model.explain(images(1, torch.float32))).isfinite().all()


@pytest.mark.parametrize(
    ("by_hand", "error", "message"),
    [
        ({"grid": (9, 9)}, StructureNotFound, r"grid=\(9, 9\) is not that of layer .* 6 x 8 cells"),
        ({"grid": 8}, ChoiceError, r"grid must be \(height, width\); got 8"),
        ({"grid": (-1, 2)}, ChoiceError, "grid must be at least 1"),
        ({"layer": "features.2", "head": "head"}, ModelError, "head= is a module.*got str"),
        ({"layer": nn.ReLU()}, ModelError, r"layer= is a path$"),
    ],
)
def test_parts_given_by_hand_that_can_not_be(by_hand: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        dualcam.wrap(tiny("mlp"), preprocessing=PREPROCESSING, **by_hand)


class WorksInPlace(nn.Module):
    """A head that begins with an activation in place, as people write it behind the layer they tap."""

    def __init__(self) -> None:
        super().__init__()
        self.act, self.last = nn.ReLU(inplace=True), nn.Linear(8, 5)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.last(self.act(features).mean((2, 3)))
        return logits


def test_a_head_by_hand_may_work_in_place() -> None:
    torch.manual_seed(0)
    head = WorksInPlace()
    module = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), head).double().eval()
    model = dualcam.wrap(module, preprocessing=PREPROCESSING, layer="1", head=head)
    linear = dualcam.wrap(module, preprocessing=PREPROCESSING)
    assert linear.softmax_head.is_linear
    for create_graph in (False, True):  # by cell: where F is 0, a ReLU's gradient is too, and the row is not
        options: Any = {"method": "layer-cam", "create_graph": create_graph}
        found, expected = (evidence_maps(each, images(), "all", **options) for each in (model, linear))
        torch.testing.assert_close(found, expected)
        assert found.any()


def test_a_layer_given_as_a_module_is_named() -> None:
    module = tiny("mlp")
    with pytest.raises(ModelError, match=r"that of the module given is 'features\.2'"):
        dualcam.wrap(module, preprocessing=PREPROCESSING, layer=module.features[2])  # type: ignore[arg-type]


def test_a_grid_that_is_the_layer_s_is_taken() -> None:
    assert dualcam.wrap(tiny("mlp"), preprocessing=PREPROCESSING, grid=(6, 8)).anatomy.grid == (6, 8)


def test_class_names_may_be_numbers() -> None:
    names: Any = range(10, 15)
    model = dualcam.wrap(tiny("mlp"), preprocessing=PREPROCESSING, class_names=names)
    assert model.explain(images(1), "12")[0][0].name == "12"
    assert model.explain(images(1), "12")[0].indices.tolist() == [2]


class Hungry(nn.Module):
    """Asks for more memory than any machine has."""

    def forward(self, x: Tensor) -> Tensor:
        return x.new_empty(2**60)


def test_too_little_memory_is_not_taken_for_a_wrong_size() -> None:
    with pytest.raises(ModelError, match=r"not enough memory .* images of shape .*smaller size"):
        dualcam.wrap(nn.Sequential(nn.Conv2d(3, 4, 1), Hungry()), preprocessing=PREPROCESSING)
