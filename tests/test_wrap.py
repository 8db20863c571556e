"""Any classifier to a `DualBranch`: what is found in known architectures, given by hand, and refused."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

import dualcam
from dualcam import DualBranch, Preprocessing
from dualcam.errors import ModelError, StructureNotFound, WeightsUnavailable
from dualcam.types import HeadKind
from tests.models import CHANNELS, CLASSES, GRID, PREPROCESSING, OpaqueHead, images, maps, tiny
from tests.observe import changed, snapshot


@dataclass(frozen=True)
class Case:
    """An architecture with random weights and what must be found in it."""

    name: str
    kind: HeadKind
    layer: str
    channels: int
    grid: tuple[int, int] = (7, 7)
    nonnegative: bool = True
    slow: bool = True


CASES = [
    Case("torchvision:resnet18", "pooled-linear", "layer4", 512, slow=False),
    Case("torchvision:resnet50", "pooled-linear", "layer4", 2048),
    Case("torchvision:efficientnet_b0", "pooled-linear", "features", 1280, nonnegative=False),
    Case("torchvision:mobilenet_v2", "pooled-linear", "features", 1280, slow=False),
    Case("torchvision:mobilenet_v3_small", "mlp", "features", 576, nonnegative=False, slow=False),
    Case("torchvision:densenet121", "pooled-linear", "features", 1024, slow=False),
    Case("torchvision:convnext_tiny", "norm-linear", "features", 768, nonnegative=False),
    Case("torchvision:vgg11", "mlp", "features", 512),
    Case("torchvision:inception_v3", "pooled-linear", "Mixed_7c", 2048, (8, 8)),
    Case("torchvision:googlenet", "pooled-linear", "inception5b", 1024),
    Case("torchvision:squeezenet1_1", "mlp", "features", 512, (13, 13), slow=False),
    Case("torchvision:regnet_y_400mf", "pooled-linear", "trunk_output", 440),
    Case("torchvision:shufflenet_v2_x0_5", "pooled-linear", "conv5", 1024),
    Case("torchvision:mnasnet0_5", "pooled-linear", "layers", 1280),
    Case("torchvision:alexnet", "mlp", "features", 256, (6, 6)),
    Case("timm:resnet18", "pooled-linear", "layer4", 512),
    Case("timm:efficientnet_b0", "pooled-linear", "bn2", 1280, nonnegative=False),
    Case("timm:tf_efficientnet_lite0", "pooled-linear", "bn2", 1280, slow=False),
    Case("timm:mobilenetv2_100", "pooled-linear", "bn2", 1280),
    Case("timm:mobilenetv3_small_100", "mlp", "blocks", 576, nonnegative=False),
    Case("timm:densenet121", "pooled-linear", "features", 1024),
    Case("timm:convnext_atto", "norm-linear", "stages", 320, nonnegative=False, slow=False),
    Case("timm:vgg11", "mlp", "features", 512),
    Case("timm:inception_v3", "pooled-linear", "Mixed_7c", 2048, (8, 8)),
    Case("timm:regnety_002", "pooled-linear", "s4", 368),
    Case("timm:resnetv2_50", "pooled-conv", "norm", 2048),
    Case("timm:ghostnet_100", "mlp", "blocks", 960),
    Case("timm:hrnet_w18_small", "pooled-linear", "final_layer", 2048),
    Case("timm:dla34", "pooled-conv", "level5", 512),
    Case("timm:nf_resnet26", "pooled-linear", "final_act", 2048),
    Case("timm:repvgg_a0", "pooled-linear", "stages", 1280),
    Case("timm:edgenext_xx_small", "norm-linear", "stages", 168, (8, 8), nonnegative=False),
]
every = pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[pytest.mark.slow] if case.slow else [], id=case.name) for case in CASES]
)


@pytest.fixture(autouse=True)
def _no_network(offline: list[Any]) -> None:
    """None of this needs a network."""


def noise(model: DualBranch, batch: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(batch, 3, *model.preprocessing.size, generator=torch.Generator().manual_seed(1)).to(dtype)


def planted(model: DualBranch, activations: Tensor) -> AbstractContextManager[Any]:
    """Let the tapped layer return ``activations`` (NCHW) inside the block."""
    anatomy = model.anatomy
    output = activations if anatomy.layout == "NCHW" else activations.permute(0, 2, 3, 1)
    return model.classifier.get_submodule(anatomy.layer).register_forward_hook(lambda *_: output.clone())


@every
def test_known_architectures(case: Case) -> None:
    torch.manual_seed(0)
    model = dualcam.wrap(case.name, weights="random")
    anatomy, classifier = model.anatomy, model.classifier
    assert (anatomy.head.kind, anatomy.layer, anatomy.channels, anatomy.grid, anatomy.nonnegative) == (
        case.kind,
        case.layer,
        case.channels,
        case.grid,
        case.nonnegative,
    )
    assert model.source == case.name
    assert model.classes == 1000
    assert model.class_names is not None
    assert model.class_names[1] == "goldfish"
    assert not classifier.training
    before = snapshot(classifier)
    for batch in (1, 3):
        pixels = noise(model, batch)
        for memory in (torch.contiguous_format, torch.channels_last):
            check_logits(model, pixels.contiguous(memory_format=memory))
    check_activations(model, noise(model, 2), case)
    check_maps(model, noise(model, 2), case)
    assert changed(before, snapshot(classifier)) == []
    if case.kind in ("pooled-linear", "pooled-conv"):
        check_planted(model)


def check_logits(model: DualBranch, pixels: Tensor) -> None:
    with torch.no_grad():
        own = model.classifier(pixels)
        softmax, sigmoid = model(pixels)
    assert torch.equal(softmax, own)
    assert torch.equal(sigmoid, own)


def check_activations(model: DualBranch, pixels: Tensor, case: Case) -> None:
    with torch.no_grad():
        whole, logits = model.activations_and_logits(pixels)
        part = model.activations(pixels)
        assert torch.equal(whole, part)  # leaving the forward early loses nothing
        assert whole.shape == (2, case.channels, *case.grid)
        torch.testing.assert_close(model.softmax_head(whole), logits, rtol=1e-4, atol=1e-5)
        assert bool((whole >= 0).all()) == case.nonnegative


def check_maps(model: DualBranch, pixels: Tensor, case: Case) -> None:
    linear = case.kind in ("pooled-linear", "pooled-conv")
    for sign in ("signed", "positive"):
        for explanation in model.explain(pixels, "top2", sign=sign):
            assert explanation.raw.shape == (2, *case.grid)
            assert torch.isfinite(explanation.raw).all()
            assert explanation.signed.abs().max() > 0
            assert (explanation.residuals is not None) == linear
            if explanation.residuals is not None:
                assert explanation.residuals.max() < 1e-4 * max(1, float(explanation.logits.softmax.abs().max()))
    again = model.explain(pixels, "top2", branch="softmax")
    assert torch.equal(maps(again), maps(model.explain(pixels, "top2", branch="sigmoid")))


def check_planted(model: DualBranch) -> None:
    """Evidence for a class in one quadrant is where its map is largest."""
    (height, width), k = model.anatomy.grid, 7
    row = model.softmax_head.rows().weight.detach()[k].clamp(min=0)
    for top, left in ((0, 0), (0, 1), (1, 0), (1, 1)):
        quadrant = torch.zeros(1, model.anatomy.channels, height, width)
        ys = slice(0, height // 2) if top == 0 else slice(height - height // 2, height)
        xs = slice(0, width // 2) if left == 0 else slice(width - width // 2, width)
        quadrant[:, :, ys, xs] = row.view(1, -1, 1, 1)
        with planted(model, quadrant):
            (explanation,) = model.explain(noise(model, 1), k, sign="signed")
        raw = explanation.raw[0]
        inside = torch.zeros_like(raw, dtype=torch.bool)
        inside[ys, xs] = True
        assert raw[inside].min() > 0
        assert raw[~inside].abs().max() <= 1e-6 * raw.max()
        shown = explanation.heatmap()
        y, x = divmod(int(shown.argmax()), shown.shape[1])
        assert (y >= shown.shape[0] / 2, x >= shown.shape[1] / 2) == (bool(top), bool(left))


@pytest.mark.parametrize(
    "name",
    [
        "torchvision:resnet18",
        "torchvision:squeezenet1_1",
        "timm:convnext_atto",
        pytest.param("torchvision:densenet121", marks=pytest.mark.slow),
        pytest.param("timm:efficientnet_b0", marks=pytest.mark.slow),
        pytest.param("timm:resnetv2_50", marks=pytest.mark.slow),
    ],
)
def test_half_precision(name: str) -> None:
    torch.manual_seed(0)
    model = dualcam.wrap(dualcam.wrap(name, weights="random").classifier.to(torch.bfloat16))
    check_logits(model, noise(model, 3, torch.bfloat16))
    (explanation,) = model.explain(noise(model, 1))
    assert explanation.raw.dtype == torch.float32
    assert torch.isfinite(explanation.raw).all()


@pytest.mark.parametrize(("name", "size"), [("inception_v3", 299), pytest.param("googlenet", 224)])
@pytest.mark.slow
def test_auxiliary_heads_in_train_mode(name: str, size: int) -> None:
    torch.manual_seed(0)
    classifier = torchvision.models.get_model(name, weights=None, init_weights=False, aux_logits=True).train()
    before = snapshot(classifier)
    model = dualcam.wrap(classifier)
    assert model.preprocessing.size == (size, size)
    assert model.softmax_head.kind == "pooled-linear"
    pixels = torch.randn(2, 3, size, size)
    explained = model.explain(pixels, "top2")
    assert torch.isfinite(maps(explained)).all()
    assert changed(before, snapshot(classifier)) == []
    logits = model.eval()(pixels)
    indices = torch.stack([item.indices for item in explained])
    found = torch.stack([item.logits.softmax for item in explained])
    torch.testing.assert_close(found, logits.softmax.gather(1, indices))
    model.train()
    assert model(pixels).softmax.shape == (2, 1000)  # the main logits, not the auxiliary ones


# --- what users build themselves ---------------------------------------------------------------------------------


class Residual(nn.Module):
    """Two residual blocks, an in-place functional activation, a functional pool."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, CHANNELS, 3, stride=4, padding=1)
        self.block1 = nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), nn.ReLU())
        self.block2 = nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), nn.Tanh())
        self.fc = nn.Linear(CHANNELS, CLASSES)

    def forward(self, batch: Tensor) -> Tensor:
        hidden = self.stem(batch)
        hidden = hidden + self.block1(hidden)
        hidden = functional.relu(hidden + self.block2(hidden))
        logits: Tensor = self.fc(functional.adaptive_avg_pool2d(hidden, 1).flatten(1))
        return logits


class InPlace(nn.Module):
    """The last activation works in place, as a module or as a function, on the tapped tensor."""

    def __init__(self, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, CHANNELS, 3, stride=4, padding=1)
        self.norm = nn.BatchNorm2d(CHANNELS)
        self.activation = activation
        self.fc = nn.Linear(CHANNELS, CLASSES)

    def forward(self, batch: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.activation(self.norm(self.conv(batch))).mean((2, 3)))
        return logits


class Wrapping(nn.Module):
    """A model that returns what ``dress`` makes of the logits."""

    def __init__(self, dress: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.inner = tiny("pooled-linear")
        self.dress = dress

    def forward(self, batch: Tensor) -> Any:
        return self.dress(self.inner(batch))


@dataclass
class Output:
    """An output record, as Hugging Face models return."""

    logits: Tensor


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "module": nn.ReLU(inplace=True),
    "function": lambda x: functional.relu(x, inplace=True),
    "copying module": nn.ReLU(),
    "copying function": functional.relu,
    "silu module": nn.SiLU(inplace=True),
    "silu function": lambda x: functional.silu(x, inplace=True),
    "copying silu function": functional.silu,
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_after_the_last_layer(activation: str) -> None:
    """Module or function, in place or not: F is what the pooling reads, by every way to get it."""
    torch.manual_seed(0)
    function = ACTIVATIONS[activation]
    classifier = InPlace(function).double().eval()
    model = dualcam.wrap(classifier, preprocessing=PREPROCESSING)
    with torch.no_grad():
        expected = function(classifier.norm(classifier.conv(images())))
        whole, logits = model.activations_and_logits(images())
        part = model.activations(images())
    assert model.softmax_head.kind == "pooled-linear"
    assert torch.equal(whole, expected)
    assert torch.equal(part, expected)
    assert torch.equal(logits, classifier(images()))
    assert model.anatomy.nonnegative == ("silu" not in activation)


@pytest.mark.parametrize(
    "dress",
    [Output, lambda logits: {"logits": logits}, lambda logits: (logits, "more"), lambda logits: [logits]],
    ids=["record", "dict", "tuple", "list"],
)
def test_outputs_of_every_form(dress: Callable[[Tensor], Any]) -> None:
    model = dualcam.wrap(Wrapping(dress).eval(), preprocessing=PREPROCESSING)
    expected = dualcam.wrap(tiny("pooled-linear"), preprocessing=PREPROCESSING).explain(images(), "all")
    assert torch.equal(maps(model.explain(images(), "all")), maps(expected))


def test_a_layer_given_by_hand() -> None:
    classifier = tiny("pooled-linear")
    model = dualcam.wrap(classifier, layer="features.3", preprocessing=PREPROCESSING)
    assert model.anatomy.layer == "features.3"
    assert not model.anatomy.nonnegative
    assert model.softmax_head.kind != "pooled-linear"  # a norm and a ReLU follow
    with torch.no_grad():
        assert torch.equal(model.activations(images()), classifier.features[:4](images()))
        torch.testing.assert_close(model(images()).sigmoid, classifier(images()))
    (explanation, _) = model.explain(images(), 1)
    assert explanation.raw.shape == (1, *GRID)


def test_a_head_given_by_hand() -> None:
    classifier = tiny("pooled-linear")
    linear = classifier.head[3]
    assert isinstance(linear, nn.Linear)
    model = dualcam.wrap(classifier, layer="features", head=OpaqueHead(linear), preprocessing=PREPROCESSING)
    assert model.softmax_head.kind == "mlp"
    plain = dualcam.wrap(classifier, preprocessing=PREPROCESSING)
    one, other = (maps(item.explain(images(), "all", method="grad-cam")) for item in (model, plain))
    torch.testing.assert_close(one, other)


def test_a_head_that_is_not_the_models_is_refused() -> None:
    wrong = OpaqueHead(nn.Linear(CHANNELS, CLASSES).double())
    with pytest.raises(StructureNotFound, match=r"'features'.*does not reproduce"):
        dualcam.wrap(tiny("pooled-linear"), layer="features", head=wrong, preprocessing=PREPROCESSING)


def test_a_head_without_its_layer_is_refused() -> None:
    with pytest.raises(StructureNotFound, match="head= was given without layer="):
        dualcam.wrap(tiny("mlp"), head=nn.Flatten(), preprocessing=PREPROCESSING)


def test_a_layer_without_spatial_output_is_refused() -> None:
    with pytest.raises(StructureNotFound, match=r"head\.3.*\(2, 5\).*\[B, D, h, w\]"):
        dualcam.wrap(tiny("pooled-linear"), layer="head.3", head=nn.Identity(), preprocessing=PREPROCESSING)


class ChannelsLast(nn.Module):
    """Activations in NHWC, as Swin-like models keep them."""

    def __init__(self, *, flat: bool) -> None:
        super().__init__()
        self.features = tiny("pooled-linear").features
        self.last = nn.Linear(CHANNELS, CHANNELS).double()
        self.fc = nn.Linear(CHANNELS, CLASSES).double()
        self.flat = flat

    def forward(self, batch: Tensor) -> Tensor:
        cells = self.last(self.features(batch).permute(0, 2, 3, 1))
        pooled = cells.mean((1, 2)) if self.flat else functional.adaptive_avg_pool2d(cells.permute(0, 3, 1, 2), 1)
        logits: Tensor = self.fc(pooled.flatten(1))
        return logits


@pytest.mark.parametrize("layout", [None, "NHWC"])
def test_layout(layout: Any) -> None:
    classifier = ChannelsLast(flat=True).eval()
    model = dualcam.wrap(classifier, layout=layout, preprocessing=PREPROCESSING)
    assert model.anatomy.layout == "NHWC"
    assert model.anatomy.channels == CHANNELS
    assert model.anatomy.grid == GRID
    with torch.no_grad():
        cells = classifier.last(classifier.features(images()).permute(0, 2, 3, 1))
        rows = classifier.fc.weight
    expected = torch.einsum("kd,bhwd->bkhw", rows, cells)
    torch.testing.assert_close(maps(model.explain(images(), "all", sign="signed", method="cam")), expected)


def test_the_wrong_layout_is_refused() -> None:
    with pytest.raises(StructureNotFound):
        dualcam.wrap(tiny("pooled-linear"), layout="NHWC", preprocessing=PREPROCESSING)


def test_preprocessing_names_and_sign_given_by_hand() -> None:
    names = ["ant", "bee", "cat", "dog", "eel"]
    preprocessing = Preprocessing(size=(32, 16), mean=(0, 0, 0), std=(1, 1, 1))
    model = dualcam.wrap(tiny("mlp"), preprocessing=preprocessing, class_names=names, nonnegative=False)
    assert model.preprocessing is preprocessing
    assert model.anatomy.grid == (8, 4)
    assert model.class_names == tuple(names)
    assert not model.anatomy.nonnegative
    (explanation, _) = model.explain(torch.randn(2, 3, 32, 16).double(), "Dog")
    assert explanation[0].name == "dog"
    assert all(name in model.describe() for name in ("mlp", "features", "32 x 16", "ant ... eel", "can be negative"))


def test_names_of_another_number_are_refused() -> None:
    with pytest.raises(ModelError, match="2 names; the model has 5 classes"):
        dualcam.wrap(tiny("mlp"), preprocessing=PREPROCESSING, class_names=["one", "two"])


@pytest.mark.parametrize(("given", "near"), [("feature", "features"), ("features.33", "features.3"), ("hed", "head")])
def test_an_unknown_layer_names_near_ones(given: str, near: str) -> None:
    with pytest.raises(StructureNotFound, match=rf"layer='{given}' is no module.*\b{near}\b"):
        dualcam.wrap(tiny("mlp"), layer=given, preprocessing=PREPROCESSING)


@pytest.mark.parametrize("layer", [None, "block1", "stem"])
def test_any_layer_of_a_residual_net_written_with_functions(layer: str | None) -> None:
    """Nothing here is a chain of modules; the tail is the model's own, and its gradient is autograd's."""
    torch.manual_seed(0)
    classifier = Residual().double().eval()
    model = dualcam.wrap(classifier, layer=layer, preprocessing=PREPROCESSING)
    assert (model.softmax_head.kind, model.anatomy.layer) == ("tail", layer or "block2")
    (explanation,) = model.explain(images(1), 2, method="layer-cam", sign="signed")
    kept: list[Tensor] = []
    handle = classifier.get_submodule(model.anatomy.layer).register_forward_hook(lambda *call: kept.append(call[2]))
    logits = classifier(images(1))
    handle.remove()
    (gradient,) = torch.autograd.grad(logits[0, 2], kept[0])
    torch.testing.assert_close(explanation.raw[0], (gradient * kept[0]).sum(1)[0].detach(), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("layer", ["layer4.0.conv1", "layer3", "layer4.1.conv2"])
def test_a_layer_deep_inside_a_known_residual_net(layer: str) -> None:
    """Additions in place look like a chain; the proof refuses them, and the tail is taken, or a head given by hand."""
    torch.manual_seed(0)
    classifier = torchvision.models.resnet18(weights=None).eval()
    tailed = dualcam.wrap(classifier, layer=layer)
    assert tailed.softmax_head.kind == "tail"
    assert tailed.softmax_head.last_layer() is classifier.get_submodule("fc")
    if layer == "layer3":
        tail = nn.Sequential(classifier.layer4, classifier.avgpool, nn.Flatten(), classifier.get_submodule("fc"))
        model = dualcam.wrap(classifier, layer=layer, head=tail)
        assert (model.softmax_head.kind, model.anatomy.grid) == ("mlp", (14, 14))
        pixels = torch.randn(1, 3, 224, 224)
        with torch.no_grad():
            assert torch.equal(model(pixels).sigmoid, classifier(pixels))
        (explanation,) = model.explain(pixels)
        assert explanation.raw.shape == (1, 14, 14)
        torch.testing.assert_close(tailed.explain(pixels)[0].raw, explanation.raw, rtol=1e-3, atol=1e-6)


class PixelMlp(nn.Module):
    """No spatial activations at all."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 24 * 32, 8), nn.ReLU(), nn.Linear(8, CLASSES))

    def forward(self, batch: Tensor) -> Tensor:
        logits: Tensor = self.net(batch)
        return logits


def test_a_model_without_activations_says_what_to_pass() -> None:
    with pytest.raises(StructureNotFound, match=r"pass layer=.*none.*head="):
        dualcam.wrap(PixelMlp(), preprocessing=PREPROCESSING)


def test_a_model_of_another_input_size_says_what_to_pass() -> None:
    with pytest.raises(StructureNotFound, match=r"\(2, 3, 224, 224\).*preprocessing=Preprocessing\(size="):
        dualcam.wrap(PixelMlp())


def test_a_model_that_gives_maps_is_refused() -> None:
    with pytest.raises(StructureNotFound, match=r"expected logits of shape \[B, C\].*\(2, 8, 6, 8\)"):
        dualcam.wrap(tiny("mlp").features, preprocessing=PREPROCESSING)


def test_other_things_are_refused() -> None:
    model = dualcam.wrap(tiny("mlp"), preprocessing=PREPROCESSING)
    with pytest.raises(ModelError, match="wrapped already"):
        dualcam.wrap(model)
    with pytest.raises(ModelError, match="int"):
        dualcam.wrap(7)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm:resnet5", "timm has no model 'resnet5'; near names: .*resnet50"),
        ("timm:zzzzzzzzzz", "timm has no model 'zzzzzzzzzz'$"),
        ("torchvision:resnet51", "torchvision has no classifier 'resnet51'; near names: .*resnet"),
        ("torchvision:zzz", "near names"),
        ("keras:resnet50", "'keras:resnet50'.*builtin:NAME.*hf:NAME.*timm:NAME.*torchvision:NAME"),
        ("resnet50", "'resnet50' is neither a directory.*timm:resnet50"),
        ("builtin:resnet50", "builtin:efficientnet-lite0"),
        ("", "neither a directory"),
    ],
)
def test_unknown_names(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        dualcam.wrap(name)


@pytest.mark.parametrize(
    "name", ["timm:resnet18", "timm:resnet18.a1_in1k", "torchvision:resnet18", "hf:some-team/some-model"]
)
def test_weights_that_are_not_here_are_not_fetched(
    name: str, offline: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: None)
    with pytest.raises(WeightsUnavailable, match=r"not on this machine.*download=True.*weights=PATH.*weights='random'"):
        dualcam.wrap(name)
    assert offline == []


def test_random_weights_touch_no_network(offline: list[Any]) -> None:
    dualcam.wrap("timm:mobilenetv3_small_050", weights="random")
    assert offline == []


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_weights_of_a_file(suffix: str, tmp_path: Path) -> None:
    first = dualcam.wrap("timm:mobilenetv3_small_050", weights="random")
    file = tmp_path / f"weights{suffix}"
    state = first.classifier.state_dict()
    if suffix == ".safetensors":
        save_file(state, file)
    else:
        torch.save({"state_dict": state} if suffix == ".pth" else state, file)
    second = dualcam.wrap("timm:mobilenetv3_small_050", weights=str(file))
    with torch.no_grad():
        assert torch.equal(first(noise(first, 1)).softmax, second(noise(first, 1)).softmax)


def test_weights_files_that_do_not_fit(tmp_path: Path) -> None:
    other, broken, evil = tmp_path / "other.pt", tmp_path / "broken.safetensors", tmp_path / "evil.pt"
    torch.save(tiny("mlp").state_dict(), other)
    broken.write_bytes(b"no weights")
    torch.save(tiny("mlp"), evil)  # pickled code
    for file in (other, evil, broken):
        with pytest.raises(WeightsUnavailable, match=file.name):
            dualcam.wrap("timm:mobilenetv3_small_050", weights=str(file))
    with pytest.raises(WeightsUnavailable, match="is not a file"):
        dualcam.wrap("timm:mobilenetv3_small_050", weights=str(tmp_path / "none.pt"))


# --- Hugging Face ------------------------------------------------------------------------------------------------


def huggingface(family: str) -> Any:
    transformers = pytest.importorskip("transformers")
    labels = {"id2label": dict(enumerate(["ant", "bee", "cat"])), "label2id": {"ant": 0, "bee": 1, "cat": 2}}
    torch.manual_seed(0)
    if family == "resnet":
        sizes: dict[str, Any] = {"hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
        config = transformers.ResNetConfig(embedding_size=8, **sizes, **labels)
        return transformers.ResNetForImageClassification(config).eval()
    config = transformers.ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, image_size=64, **labels)
    return transformers.ConvNextForImageClassification(config).eval()


@pytest.mark.parametrize(("family", "kind"), [("resnet", "pooled-linear"), ("convnext", "norm-linear")])
def test_huggingface_models_in_memory_and_in_a_folder(
    family: str, kind: HeadKind, tmp_path: Path, offline: list[Any]
) -> None:
    module = huggingface(family)
    model = dualcam.wrap(module, preprocessing=Preprocessing(size=(64, 64)))
    assert model.softmax_head.kind == kind
    assert model.anatomy.channels == 16
    assert model.anatomy.nonnegative == (family == "resnet")
    assert model.class_names == ("ant", "bee", "cat")
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(pixels).softmax, module(pixels).logits)
        assert torch.equal(model(pixels).sigmoid, module(pixels).logits)
    expected = maps(model.explain(pixels, "all"))
    assert torch.isfinite(expected).all()

    module.save_pretrained(tmp_path)
    fields = (
        '{"size": {"height": 64, "width": 64}, "image_mean": [0.1, 0.2, 0.3], "image_std": [1, 1, 1], "resample": 3}'
    )
    (tmp_path / "preprocessor_config.json").write_text(fields)
    loaded = dualcam.wrap(f"hf:{tmp_path}")
    assert loaded.source == f"hf:{tmp_path}"
    assert loaded.class_names == ("ant", "bee", "cat")
    assert loaded.preprocessing == Preprocessing(
        (64, 64), (0.1, 0.2, 0.3), (1, 1, 1), "bicubic", 1.0, "preprocessor_config.json"
    )
    torch.testing.assert_close(maps(loaded.explain(pixels, "all")), expected)
    assert offline == []


def test_a_huggingface_folder_without_preprocessing(tmp_path: Path, offline: list[Any]) -> None:
    huggingface("convnext").save_pretrained(tmp_path)
    model = dualcam.wrap(f"hf:{tmp_path}")
    assert model.preprocessing.size == (64, 64)
    assert "assumed" in model.preprocessing.origin
    assert offline == []


def test_contexts_do_not_matter_to_wrapping() -> None:
    classifier = tiny("norm-linear")
    expected = dualcam.wrap(classifier, preprocessing=PREPROCESSING).anatomy
    contexts: list[Callable[[], AbstractContextManager[Any]]] = [torch.no_grad, torch.inference_mode, nullcontext]
    for context in contexts:
        with context():
            found = dualcam.wrap(classifier, preprocessing=PREPROCESSING).anatomy
        assert (found.layer, found.head.kind, found.grid) == (expected.layer, expected.head.kind, expected.grid)


@pytest.mark.parametrize("frozen", [True, False])
def test_a_model_that_rounds_otherwise_while_autograd_records(frozen: bool) -> None:
    """PyTorch's attention has another way without autograd; torchvision's last layer of zeros hides what it rounds."""
    torch.manual_seed(0)
    layers = {"num_layers": 2, "num_heads": 2, "hidden_dim": 64, "mlp_dim": 128}
    classifier = torchvision.models.VisionTransformer(image_size=224, patch_size=16, num_classes=5, **layers).eval()
    nn.init.normal_(classifier.heads.head.weight)
    image = torch.randn(1, 3, 224, 224, requires_grad=True)
    with torch.no_grad():
        expected = classifier(image)
    assert not torch.equal(classifier(image), expected)
    model = dualcam.wrap(classifier.requires_grad_(not frozen))
    assert model.anatomy.layer == "encoder.layers.encoder_layer_1.ln_1"
    explanations = model.explain(image.detach(), "all")
    torch.testing.assert_close(explanations[0].logits.softmax, expected[0], rtol=1e-4, atol=1e-4)
    assert maps(explanations).abs().max() > 0
