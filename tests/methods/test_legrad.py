"""LeGrad against a transformer written out with its attention in the open; what it refuses, and leaves as it was."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

import dualcam
from dualcam import DualBranch, Preprocessing, relevance
from dualcam.acceleration import packing
from dualcam.acceleration.blocked import Keeping
from dualcam.errors import ChoiceError, MethodNotApplicable
from dualcam.evaluation.cells import make_grid
from dualcam.targets import score_values
from dualcam.tuning import Tuning
from dualcam.types import Branch, Score, Sign
from tests.models import CLASSES, maps, wrapped
from tests.observe import changed, snapshot

WIDTH, HEADS, DEPTH, SIDE, GRID = 12, 3, 3, 16, (4, 4)
BRANCHES: list[Branch] = ["softmax", "sigmoid"]
SCORES: list[Score] = ["logit", "log-odds", "finer"]
MAKE = {"patch_size": 4, "num_heads": HEADS, "num_classes": CLASSES}


class Block(NamedTuple):
    """A block's parts: norm, weights [3 E, E] and bias of q, k and v, last projection, what follows beside tokens."""

    norm: nn.Module
    weight: Tensor
    bias: Tensor
    last: nn.Module
    rest: Callable[[Tensor], Tensor]


class Written(NamedTuple):
    """A transformer, written out: images to tokens, blocks, a block's output to features, tokens before the cells."""

    tokens: Callable[[Tensor], Tensor]
    blocks: list[Block]
    features: Callable[[Tensor], Tensor]
    leading: int


def of_timm(model: Any) -> Written:
    """Write out a timm ViT, whatever it pools."""

    def rest(block: Any) -> Callable[[Tensor], Tensor]:
        return lambda x: block.mlp(block.norm2(x))

    blocks = [
        Block(each.norm1, each.attn.qkv.weight, each.attn.qkv.bias, each.attn.proj, rest(each)) for each in model.blocks
    ]

    def features(x: Tensor) -> Tensor:
        normed: Tensor = model.norm(x)
        pooled: Tensor = model.fc_norm(normed.mean(1)) if model.global_pool == "avg" else normed[:, 0]
        return pooled

    return Written(lambda x: model._pos_embed(model.patch_embed(x)), blocks, features, model.num_prefix_tokens)


def of_torchvision(model: Any) -> Written:
    def rest(block: Any) -> Callable[[Tensor], Tensor]:
        return lambda x: block.mlp(block.ln_2(x))

    def tokens(x: Tensor) -> Tensor:
        together = torch.cat([model.class_token.expand(len(x), -1, -1), model._process_input(x)], 1)
        placed: Tensor = together + model.encoder.pos_embedding
        return placed

    blocks = [
        Block(each.ln_1, attention.in_proj_weight, attention.in_proj_bias, attention.out_proj, rest(each))
        for each in model.encoder.layers
        for attention in [each.self_attention]
    ]
    return Written(tokens, blocks, lambda x: model.encoder.ln(x)[:, 0], 1)


def of_hugging_face(model: Any) -> Written:
    body = model.vit

    def rest(block: Any) -> Callable[[Tensor], Tensor]:
        return lambda x: block.mlp(block.layernorm_after(x))

    layers = [module for module in body.modules() if type(module).__name__ == "ViTLayer"]
    blocks = []
    for layer in layers:
        parts = [getattr(layer.attention, name) for name in ("q_proj", "k_proj", "v_proj")]
        weight, bias = (torch.cat([getattr(part, name) for part in parts]) for name in ("weight", "bias"))
        blocks.append(Block(layer.layernorm_before, weight, bias, layer.attention.o_proj, rest(layer)))
    return Written(body.embeddings, blocks, lambda x: body.layernorm(x)[:, 0], 1)


def small_timm(**options: Any) -> nn.Module:
    model: nn.Module = timm.models.VisionTransformer(
        **{"img_size": SIDE, "embed_dim": WIDTH, "depth": DEPTH, "reg_tokens": 1, **MAKE, **options}
    )
    return model


def pooled_timm() -> nn.Module:
    return small_timm(global_pool="avg", class_token=False, reg_tokens=0)


def open_timm() -> nn.Module:
    """Return one whose attention is computed by plain operations."""
    model: Any = small_timm()
    for block in model.blocks:
        block.attn.fused_attn = False
    return model  # type: ignore[no-any-return]


def small_torchvision() -> nn.Module:
    model: nn.Module = torchvision.models.VisionTransformer(
        image_size=SIDE, num_layers=DEPTH, hidden_dim=WIDTH, mlp_dim=16, **MAKE
    )
    return model


def hugging_face(implementation: str) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": WIDTH, "num_hidden_layers": DEPTH, "num_attention_heads": HEADS, "intermediate_size": 16}
    config = transformers.ViTConfig(image_size=SIDE, patch_size=4, num_labels=CLASSES, **sizes)
    config._attn_implementation = implementation
    model: nn.Module = transformers.ViTForImageClassification(config)
    return model


def small_hugging_face() -> nn.Module:
    return hugging_face("sdpa")


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[Any], Written]]] = {
    "timm": (small_timm, of_timm),
    "timm, mean of tokens": (pooled_timm, of_timm),
    "timm, one block": (lambda: small_timm(depth=1), of_timm),
    "timm, plain": (open_timm, of_timm),
    "torchvision": (small_torchvision, of_torchvision),
    "hugging face": (small_hugging_face, of_hugging_face),
    "hugging face, plain": (lambda: hugging_face("eager"), of_hugging_face),
}
every = pytest.mark.parametrize("name", MODELS)


def built(name: str) -> DualBranch:
    """Return a wrapped transformer of noise in double precision, whose sigmoid branch differs from the other."""
    torch.manual_seed(0)
    module = MODELS[name][0]().double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.4)
        model = dualcam.wrap(module, preprocessing=Preprocessing(size=(SIDE, SIDE)))
        for layer in model.sigmoid_head.last_layers():
            layer.weight.normal_(std=0.6)
    return model


def batch(count: int = 2) -> Tensor:
    return torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def gradients(model: DualBranch, name: str, image: Tensor, k: int, branch: Branch, score: Score) -> list[Tensor]:
    """Return ds_l / dA_l [heads, n, n] of each block for one image [3, H, W]."""
    written = MODELS[name][1](model.classifier)
    tokens, found = written.tokens(image.unsqueeze(0)), []
    for block in written.blocks:
        q, k_, v = functional.linear(block.norm(tokens), block.weight, block.bias).chunk(3, 2)
        q, k_, v = (part.reshape(1, -1, HEADS, WIDTH // HEADS).transpose(1, 2) for part in (q, k_, v))
        probabilities = ((q @ k_.transpose(2, 3)) * (WIDTH // HEADS) ** -0.5).softmax(3).detach().requires_grad_()
        tokens = tokens + block.last((probabilities @ v).transpose(1, 2).flatten(2))
        tokens = tokens + block.rest(tokens)
        features = written.features(tokens)
        logits = model.head(branch).last_layers()[0](features)
        total = score_values(logits, score, Tuning())[0, k]
        found.append(torch.autograd.grad(total, probabilities)[0][0])
        tokens = tokens.detach()
    return found


def naive(found: list[Tensor], leading: int, sign: Sign) -> Tensor:
    """Return the map [h, w] of ``found``."""
    rule: dict[Sign, Callable[[Tensor], Tensor]] = {
        "positive": functional.relu,
        "negative": lambda g: -functional.relu(-g),
        "signed": lambda g: g,
    }
    return torch.stack([rule[sign](g).mean((0, 1)) for g in found]).mean(0)[leading:].reshape(GRID)


def assert_near(name: str, found: Tensor, expected: Tensor) -> None:
    """Compare maps in double precision, but of a model that computes its probabilities in single precision itself."""
    if name == "hugging face, plain":
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    else:
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-14)


@every
@pytest.mark.parametrize("branch", BRANCHES)
def test_maps_are_those_of_attention_in_the_open(name: str, branch: Branch) -> None:
    model = built(name)
    leading = MODELS[name][1](model.classifier).leading
    signs: list[Sign] = ["positive", "signed", "negative"]
    for score in SCORES:
        expected = [[gradients(model, name, image, k, branch, score) for k in (1, 3)] for image in batch()]
        for sign in signs:
            options: dict[str, Any] = {"branch": branch, "score": score, "sign": sign}
            found = maps(model.explain(batch(), [1, 3], method="legrad", **options))
            assert found.shape == (2, 2, *GRID)
            for place, of_image in enumerate(expected):
                for position, each in enumerate(of_image):
                    wanted = naive(each, leading, sign)
                    assert wanted.abs().max() > 1e-6
                    assert_near(name, found[place, position], wanted)


@every
def test_the_last_blocks_alone(name: str) -> None:
    model = built(name)
    leading = MODELS[name][1](model.classifier).leading
    expected = gradients(model, name, batch()[0], 2, "sigmoid", "logit")
    for count in (1, 2, 9):
        found = maps(model.explain(batch(1), 2, method="legrad", tuning={"blocks": count}))[0, 0]
        assert_near(name, found, naive(expected[-count:], leading, "positive"))


@every
def test_a_batch_is_its_single_images(name: str) -> None:
    model = built(name)
    images = batch(6)
    together = maps(model.explain(images, "all", method="legrad"))
    for place in range(6):
        alone = maps(model.explain(images[place : place + 1], "all", method="legrad"))[0]
        torch.testing.assert_close(together[place], alone, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_contexts_do_not_change_the_map(context: Callable[[], AbstractContextManager[Any]]) -> None:
    for name in ("timm", "torchvision"):
        expected = maps(built(name).explain(batch(), 1, method="legrad"))
        model = built(name).train()
        with context():
            torch.testing.assert_close(maps(model.explain(batch(), 1, method="legrad")), expected, rtol=0, atol=0)


def test_half_precision_by_autocast_is_near() -> None:
    for name in ("timm", "torchvision"):
        model = built(name).float()
        expected = maps(model.explain(batch().float(), 1, method="legrad"))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = maps(model.explain(batch().float(), 1, method="legrad"))
        assert found.dtype == torch.float32
        assert 0 < (found - expected).abs().max() < 0.2 * expected.abs().max()


@every
def test_the_model_is_left_as_it_was(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = built(name).train()
    first, second = list(model.classifier.parameters())[:2]
    first.requires_grad_(False)
    second.grad = torch.ones_like(second)
    before, mode = snapshot(model), torch.is_grad_enabled()
    for branch in BRANCHES:
        model.explain(batch(), "top2", method="legrad", branch=branch)
    assert changed(before, snapshot(model)) == []
    norm, run = functional.layer_norm, relevance.run_blocks
    opened: list[bool] = []

    def explode(tokens: Tensor, *rest: Any, **options: Any) -> Tensor:
        if opened and torch.is_grad_enabled():  # within a block that is recorded
            raise OSError("in the middle")
        return norm(tokens, *rest, **options)

    def open_first(*args: Any) -> relevance.BlocksRun:
        opened.append(True)
        return run(*args)

    monkeypatch.setattr(relevance, "run_blocks", open_first)
    monkeypatch.setattr(functional, "layer_norm", explode)
    with pytest.raises(OSError, match="in the middle"):
        model.explain(batch(), 1, method="legrad")
    assert changed(before, snapshot(model)) == []
    assert torch.is_grad_enabled() == mode


def swin() -> nn.Module:
    model: nn.Module = timm.models.swin_transformer.SwinTransformer(
        img_size=32, embed_dim=8, depths=(2, 2), window_size=4, **{**MAKE, "num_heads": (2, 2)}
    )
    return model


def pooled_by_attention() -> nn.Module:
    return small_timm(global_pool="map", class_token=False, reg_tokens=0)


@pytest.mark.parametrize(("build", "side"), [(swin, 32), (pooled_by_attention, SIDE)])
def test_other_attention_is_refused(build: Callable[[], nn.Module], side: int) -> None:
    model = dualcam.wrap(build().eval(), preprocessing=Preprocessing(size=(side, side)))
    before = snapshot(model)
    with pytest.raises(MethodNotApplicable, match=r"all tokens attend to all.*layer-cam"):
        model.explain(torch.randn(1, 3, side, side), method="legrad")
    assert changed(before, snapshot(model)) == []
    assert "legrad" not in model.describe()


def test_a_convolutional_network_is_refused_before_any_photo() -> None:
    model = wrapped("pooled-linear")
    for ask in (
        lambda: model.explain("no such photo.jpg", method="legrad"),
        lambda: make_grid(model, method=["legrad"]),
    ):
        with pytest.raises(MethodNotApplicable, match=r"no attention to read.*layer-cam"):
            ask()
    assert "legrad" not in model.describe()


def test_it_is_named_where_it_applies_and_knows_its_number() -> None:
    model = built("timm")
    assert "legrad" in model.describe()
    with pytest.raises(ChoiceError, match="blocks must be at least 1; got 0"):
        model.explain(batch(), method="legrad", tuning={"blocks": 0})
    with pytest.raises(ChoiceError, match="blocks=2 is not read by"):
        model.explain(batch(), method="grad-cam", tuning={"blocks": 2})


@pytest.mark.parametrize("name", ["timm", "torchvision"])
def test_a_faster_copy_draws_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packed layers compute without a graph, and LeGrad opens one in the midst of a packed attention."""
    monkeypatch.setattr(packing, "PRODUCTS", 1)
    model = built(name).float()
    faster = dualcam.optimize(model)
    assert any(isinstance(module, Keeping) and not isinstance(module, nn.Conv2d) for module in faster.modules())
    plain, fast = (maps(each.explain(batch().float(), [0, 2], method="legrad")) for each in (model, faster))
    torch.testing.assert_close(fast, plain, rtol=1e-3, atol=1e-4 * float(plain.abs().max()))
