"""A faster copy explains as the model does, and says what was done; what would change the logits is not done."""

import pickle
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

import dualcam
from dualcam import DualBranch
from dualcam.acceleration import optimize as module
from dualcam.acceleration.fold import fold_batch_norms
from dualcam.acceleration.optimize import Step
from dualcam.acceleration.packed import PackedAttention, PackedConv2d, PackedLinear
from dualcam.acceleration.proof import answers, compare, probe
from dualcam.errors import ChoiceError, ModelError
from dualcam.types import HeadKind
from tests.models import CLASSES, KINDS, LINEAR, PREPROCESSING, SIZE, Tiny, images, maps, wrapped
from tests.observe import changed, snapshot

SINGLE = torch.float32


def step(model: DualBranch, name: str) -> Step:
    assert model.optimization is not None
    return next(item for item in model.optimization.steps if item.name == name)


def features(model: DualBranch) -> nn.Sequential:
    assert isinstance(model.classifier, Tiny)
    return model.classifier.features


def count(model: nn.Module, kind: type[nn.Module]) -> int:
    return sum(isinstance(item, kind) for item in model.modules())


@pytest.mark.parametrize("activation", [nn.ReLU, nn.SiLU])
@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_explains_as_the_model(kind: HeadKind, activation: type[nn.Module]) -> None:
    model = wrapped(kind, activation, dtype=SINGLE).train()
    features(model)[1].eval()
    before = snapshot(model)
    fast = dualcam.optimize(model)
    assert changed(before, snapshot(model)) == []
    assert count(fast.classifier, nn.BatchNorm2d) == 0
    assert count(fast.classifier, PackedConv2d) == 2
    assert fast.anatomy.layer == model.anatomy.layer
    assert fast.softmax_head.kind == kind
    for branch in ("softmax", "sigmoid"):
        theirs = model.explain(images(3, SINGLE), "all", branch=branch, sign="signed")
        ours = fast.explain(images(3, SINGLE), "all", branch=branch, sign="signed")
        torch.testing.assert_close(maps(ours), maps(theirs), rtol=1e-5, atol=1e-5)
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one.logits.softmax, other.logits.softmax, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(one.logits.sigmoid, other.logits.sigmoid, rtol=1e-5, atol=1e-5)
            if kind in LINEAR:
                assert one.residuals is not None
                assert one.residuals.max() < 1e-4


def test_what_is_said_is_what_was_measured() -> None:
    model = wrapped("pooled-linear", dtype=SINGLE)
    fast = dualcam.optimize(model)
    assert fast.optimization is not None
    measured = compare(answers(fast, probe(model)), answers(model, probe(model)))
    assert fast.optimization.difference == measured.logits
    assert 0 < measured.logits <= 1e-4
    told = str(fast.optimization)
    assert "2 of 2 batch norms are part of the convolutions before them" in told
    assert f"logits differ by {measured.logits:.1e} at most" in told
    assert "2 of 2 batch norms" in fast.describe()
    assert "optimized" not in model.describe()


def test_the_copy_is_frozen_in_eval_mode_and_can_be_copied_and_pickled() -> None:
    fast = dualcam.optimize(wrapped("mlp", dtype=SINGLE).train())
    assert not any(item.training for item in fast.modules())
    assert not any(parameter.requires_grad for parameter in fast.parameters())
    expected = maps(fast.explain(images(dtype=SINGLE), "all"))
    for twin in (deepcopy(fast), pickle.loads(pickle.dumps(fast))):
        assert twin.optimization == fast.optimization
        assert torch.equal(maps(twin.explain(images(dtype=SINGLE), "all")), expected)


def test_a_module_is_wrapped_first() -> None:
    classifier = dualcam.wrap().classifier
    fast = dualcam.optimize(classifier)
    assert fast.softmax_head.kind == "pooled-linear"
    assert count(fast.classifier, nn.BatchNorm2d) == 0


def test_the_default_model() -> None:
    model = dualcam.wrap()
    fast = dualcam.optimize(model)
    assert all(item.kept for item in fast.optimization.steps)  # type: ignore[union-attr]
    photo = torch.rand(2, 3, *model.preprocessing.size) * 2 - 1
    theirs, ours = (item.explain(photo, "top3", sign="signed") for item in (model, fast))
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one.indices, other.indices)
        assert (one.signed - other.signed).abs().max() < 1e-4 * other.signed.abs().max()
        assert (one.logits.softmax - other.logits.softmax).abs().max() < 1e-4


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "regnety_002", "convnext_atto", "repvgg_a0", "tresnet_m"])
def test_known_architectures(name: str) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    classifier = timm.create_model(name).eval()
    for item in classifier.modules():
        if isinstance(item, nn.BatchNorm2d):  # a trained model's norms are not the identity
            nn.init.uniform_(item.get_buffer("running_mean"), -0.1, 0.1)
            nn.init.uniform_(item.get_buffer("running_var"), 0.8, 1.2)
    model = dualcam.wrap(classifier, preprocessing=dualcam.Preprocessing(size=(64, 64)))
    fast = dualcam.optimize(model)
    assert all(item.kept or item.told.startswith("not done") for item in fast.optimization.steps)  # type: ignore[union-attr]
    photo = torch.randn(2, 3, 64, 96)
    theirs, ours = (maps(item.explain(photo, [0, 1], sign="signed")) for item in (model, fast))
    assert (ours - theirs).abs().max() < 1e-4 * theirs.abs().max()


class Block(nn.Module):
    """Convolution and batch norm, used in ways that a fold would change, or not."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.again = nn.Conv2d(8, 8, 1)
        self.fc = nn.Linear(8, CLASSES)
        if way == "weight norm":
            self.conv = parametrizations.weight_norm(self.conv)
        if way == "forward hook":
            self.conv.register_forward_hook(lambda *_: None)
        if way == "norm's hook":
            self.bn.register_forward_pre_hook(lambda *_: None)
        if way == "batch statistics":
            self.bn = nn.BatchNorm2d(8, track_running_stats=False)
        if way == "own norm":
            self.bn = Doubled(8)
        if way == "own convolution":
            self.conv = Standardized(3, 8, 3, padding=1)
        if way == "alias":
            self.alias = self.bn

    def forward(self, batch: Tensor) -> Tensor:
        features = self.conv(batch)
        normed = self.bn(features)
        if self.way == "read by the model, unseen in numbers":
            normed = normed + 0 * features
        elif self.way == "read through a view":
            normed = normed + 0 * features.detach().view(features.shape)
        elif self.way == "norm called twice":
            normed = self.bn(normed)
        elif self.way == "convolution called twice":
            normed = normed + 0 * self.conv(batch + 1)
        elif self.way == "read in another module":
            normed = normed + 0 * self.again(features)
        elif self.way == "activation in place":
            normed = functional.relu_(normed)
        pooled = self.again(normed).relu().mean((2, 3))
        logits: Tensor = self.fc(pooled)
        return logits


class Doubled(nn.BatchNorm2d):
    """Not what a batch norm does."""

    def forward(self, input: Tensor) -> Tensor:
        doubled: Tensor = 2 * super().forward(input)
        return doubled


class Standardized(nn.Conv2d):
    """Weights that do not follow the scale of the parameter."""

    def forward(self, input: Tensor) -> Tensor:
        output: Tensor = self._conv_forward(input, functional.normalize(self.weight, dim=0), self.bias)
        return output


FOLDED = {
    "plain": True,
    "activation in place": True,
    "alias": True,
    "read by the model, unseen in numbers": False,
    "read through a view": False,
    "norm called twice": False,
    "convolution called twice": False,
    "read in another module": False,
    "weight norm": False,
    "forward hook": False,
    "norm's hook": False,
    "batch statistics": False,
    "own norm": False,
    "own convolution": False,
}


@pytest.mark.parametrize("way", FOLDED)
def test_a_norm_is_folded_where_nobody_else_could_tell(way: str) -> None:
    torch.manual_seed(0)
    model = Block(way).eval()
    for buffer in model.bn.buffers():
        if buffer.is_floating_point():
            nn.init.uniform_(buffer, 0.5, 2)
    twin, batch = deepcopy(model), torch.randn(2, 3, *SIZE)
    with torch.no_grad():
        done = fold_batch_norms(twin, batch, layer="again", spared=())
        assert done.folded == int(FOLDED[way])
        assert isinstance(twin.bn, nn.Identity) == FOLDED[way]
        torch.testing.assert_close(twin(batch), model(batch), rtol=1e-5, atol=1e-6)
        if not FOLDED[way]:
            assert torch.equal(twin(batch), model(batch))


@pytest.mark.parametrize(("layer", "folded"), [("conv", 0), ("bn", 1), ("again", 1)])
def test_the_tapped_layer_keeps_its_output(layer: str, folded: int) -> None:
    torch.manual_seed(0)
    classifier = Block("plain").eval()
    nn.init.uniform_(classifier.bn.running_var, 0.5, 2)  # type: ignore[arg-type]
    head = nn.Sequential(nn.Identity(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), classifier.fc)
    if layer != "again":
        before = [classifier.again, nn.ReLU()]
        head = nn.Sequential(*([classifier.bn] if layer == "conv" else []), *before, *head)
    else:
        head = nn.Sequential(nn.ReLU(), *head)
    model = dualcam.wrap(classifier, layer=layer, head=head, preprocessing=PREPROCESSING)
    fast = dualcam.optimize(model)
    assert step(fast, "batch norms").kept == bool(folded)
    batch = images(dtype=SINGLE)
    ours, theirs = (maps(item.explain(batch, "all", sign="signed")) for item in (fast, model))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def spoil(model: DualBranch, _images: Tensor) -> str:
    features(model)[0].get_parameter("weight").mul_(1.01)
    return "weights are one percent larger"


def break_down(model: DualBranch, _images: Tensor) -> str:
    features(model)[0] = nn.Linear(1, 1)
    return "nothing runs any more"


def poison(model: DualBranch, _images: Tensor) -> str:
    features(model)[0].get_parameter("weight").fill_(torch.nan)
    return "nothing is a number any more"


@pytest.mark.parametrize(
    ("act", "told"),
    [(spoil, "logits moved by"), (break_down, "does not run with it"), (poison, "logits moved by nan")],
)
def test_a_step_that_changes_the_logits_is_taken_back(
    act: Callable[[DualBranch, Tensor], str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = list(module.STEPS.items())
    monkeypatch.setattr(module, "STEPS", dict([names[0], ("bad", act), *names[1:]]))
    model = wrapped("pooled-linear", dtype=SINGLE)
    fast = dualcam.optimize(model)
    assert [item.kept for item in fast.optimization.steps] == [True, False, True, True]  # type: ignore[union-attr]
    assert told in step(fast, "bad").told
    assert count(fast.classifier, nn.BatchNorm2d) == 0
    batch = images(dtype=SINGLE)
    torch.testing.assert_close(fast(batch), model(batch), rtol=1e-5, atol=1e-5)


def test_the_tolerance_is_the_user_s() -> None:
    model = wrapped("pooled-linear", dtype=SINGLE)
    assert not step(dualcam.optimize(model, tolerance=1e-12), "batch norms").kept
    with pytest.raises(ChoiceError, match="tolerance must be above 0"):
        dualcam.optimize(model, tolerance=0)


def test_small_logits_are_not_all_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits of 1e-6 that change by a tenth stay within 1e-4 only by name."""
    model = wrapped("pooled-linear", dtype=SINGLE)
    for head in (model.softmax_head, model.sigmoid_head):
        for parameter in head.parameters():
            parameter.data.mul_(1e-6)
    monkeypatch.setattr(module, "STEPS", {"bad": spoil})
    assert not step(dualcam.optimize(model), "bad").kept


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_types(dtype: torch.dtype) -> None:
    model = wrapped("pooled-linear", dtype=dtype)
    fast = dualcam.optimize(model)
    assert step(fast, "batch norms").kept == (dtype == torch.float64)
    ours, theirs = (item(images(dtype=dtype)).sigmoid for item in (fast, model))
    assert (ours - theirs).abs().max() <= 1e-4


def test_contexts_do_not_matter() -> None:
    contexts = (torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16))
    for context in contexts:
        with context:
            fast = dualcam.optimize(wrapped("mlp", dtype=SINGLE))
        assert all(item.kept for item in fast.optimization.steps)  # type: ignore[union-attr]
        assert torch.isfinite(maps(fast.explain(images(dtype=SINGLE), "all"))).all()


def test_an_optimized_copy_is_not_saved(tmp_path: Path) -> None:
    fast = dualcam.optimize(wrapped("pooled-linear", dtype=SINGLE))
    with pytest.raises(ModelError, match="save the model that it was made of"):
        fast.save(tmp_path / "branch")


def test_a_model_that_can_not_be_copied_is_refused() -> None:
    class Stubborn(Tiny):
        def __deepcopy__(self, _memo: Any) -> nn.Module:
            raise TypeError("cannot pickle 'socket' object")

    model = dualcam.wrap(Stubborn("mlp").eval(), preprocessing=PREPROCESSING)
    with pytest.raises(ModelError, match=r"can not be copied .*socket"):
        dualcam.optimize(model)


def test_an_optimized_copy_optimized_again_has_nothing_left_to_do() -> None:
    again = dualcam.optimize(dualcam.optimize(wrapped("mlp", dtype=SINGLE)))
    assert not step(again, "batch norms").kept
    assert not step(again, "packed weights").kept


def with_a_head(model: nn.Module) -> nn.Module:
    """Draw the last layers that libraries start at zero, with which every gradient is zero."""
    for parameter in model.parameters():
        if parameter.dim() == 2 and not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    return model.eval()


@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "mixer_s32_224", "torchvision"]
)
def test_models_of_tokens(name: str) -> None:
    torch.manual_seed(0)
    if name == "torchvision":
        layers = {"num_layers": 3, "num_heads": 3, "hidden_dim": 192, "mlp_dim": 768}
        classifier: nn.Module = torchvision.models.VisionTransformer(image_size=224, patch_size=16, **layers)
    else:
        classifier = pytest.importorskip("timm").create_model(name)
    model = dualcam.wrap(with_a_head(classifier))
    fast = dualcam.optimize(model)
    assert step(fast, "packed weights").kept
    assert count(fast.classifier, PackedLinear) >= 6
    assert count(fast.classifier, PackedAttention) == (3 if name == "torchvision" else 0)
    photo = torch.randn(1, 3, 224, 224)
    theirs, ours = (maps(item.explain(photo, [0, 1], sign="signed")) for item in (model, fast))
    assert theirs.abs().max() > 0
    assert (ours - theirs).abs().max() < 1e-4 * theirs.abs().max()


def test_a_head_of_zeros_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits that are all zero agree whatever happens before; what the heads read has to agree as well."""
    timm = pytest.importorskip("timm")
    model = dualcam.wrap(timm.create_model("vit_tiny_patch16_224").eval())
    for head in (model.softmax_head, model.sigmoid_head):
        for parameter in head.parameters():
            nn.init.zeros_(parameter)

    def bend(fast: DualBranch, _images: Tensor) -> str:
        fast.classifier.get_submodule("blocks.11.mlp.fc2").get_parameter("weight").mul_(1.01)
        return "the last block, behind the tapped layer, says something else"

    monkeypatch.setattr(module, "STEPS", {"bad": bend})
    assert not step(dualcam.optimize(model), "bad").kept
