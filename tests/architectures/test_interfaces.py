"""Models of another interface, one logit, layers and grids given by hand, Hugging Face models from configurations."""

import re
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

import dualcam
from dualcam import Preprocessing
from dualcam.errors import StructureNotFound
from dualcam.targets import SCORES, score_gradients, score_values
from dualcam.tuning import DEFAULTS
from tests.architectures.checks import check, noise
from tests.models import PREPROCESSING, tiny

PAGE = Path(__file__).resolve().parents[2] / "docs" / "architectures.md"


def test_the_page_s_snippet_runs() -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(snippet, str(PAGE), "exec"), names)
    assert names["explanation"][0].map.shape == (64, 96)
    assert names["model"].classes == 1
    assert names["model"].softmax_head.kind == "tail"
    probability = names["explanation"].probabilities
    assert 0 < float(probability) < 1


@pytest.mark.parametrize("score", list(SCORES))
def test_the_gradient_of_one_logit_is_autograd_s(score: Any) -> None:
    logits = torch.tensor([[0.7], [-2.0]], dtype=torch.float64, requires_grad=True)
    index = torch.zeros(2, 1, dtype=torch.long)
    (expected,) = torch.autograd.grad(score_values(logits, score, DEFAULTS).sum(), logits)
    found = score_gradients(logits.detach(), index, score, DEFAULTS)
    torch.testing.assert_close(found[:, 0], expected)
    if score == "probability":
        torch.testing.assert_close(score_values(logits, score, DEFAULTS), logits.sigmoid())


@pytest.mark.parametrize("size", [(160, 160), (96, 160)])
def test_class_tokens_and_registers_are_left_out_for_any_size(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    module = timm.create_model("test_vit", img_size=size, reg_tokens=3).eval()
    model = dualcam.wrap(module, preprocessing=Preprocessing(size=size))
    assert model.anatomy.grid == (size[0] // 16, size[1] // 16)
    assert (model.anatomy.layout, model.anatomy.cells.leading) == ("tokens", 4)
    check(model)


def test_a_layer_and_a_grid_given_by_hand() -> None:
    torch.manual_seed(0)
    module = timm.create_model("test_vit").eval()
    model = dualcam.wrap(module, layer="blocks.2", grid=(10, 10))
    assert (model.anatomy.layer, model.softmax_head.kind) == ("blocks.2", "tail")
    check(model)
    with pytest.raises(StructureNotFound):
        dualcam.wrap(module, layer="blocks.2", grid=(9, 9))


def test_the_last_block_of_a_class_token_has_no_gradient() -> None:
    torch.manual_seed(0)
    with pytest.raises(StructureNotFound, match=r"depend on 0 %.*earlier layer"):
        dualcam.wrap(timm.create_model("test_vit").eval(), layer="blocks.5")


@pytest.mark.parametrize("end", [nn.Softmax(1), nn.LogSoftmax(1)])
def test_a_softmax_behind_a_tail_is_named(end: nn.Module) -> None:
    with pytest.raises(StructureNotFound, match=r"ends in a softmax.*without it"):
        dualcam.wrap(nn.Sequential(tiny("tail"), end), preprocessing=PREPROCESSING)


SMALL_VIT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
SMALL_DINO = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_ratio": 2, "patch_size": 16}
CONFIGS: dict[str, dict[str, Any]] = {
    "ViT": SMALL_VIT,
    "DeiT": SMALL_VIT,
    "Beit": SMALL_VIT | {"use_mask_token": False},
    "ViTMSN": SMALL_VIT,
    "Dinov2": SMALL_DINO,
    "Dinov2WithRegisters": SMALL_DINO | {"num_register_tokens": 4},
    "Swin": {"embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4},
    "Swinv2": {"embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4},
    "ConvNext": {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2},
    "ConvNextV2": {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2},
    "ResNet": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"},
}


@pytest.mark.parametrize("family", list(CONFIGS))
def test_hugging_face_classifiers_from_configurations(family: str, offline: list[Any]) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {} if family == "ResNet" else {"image_size": 64}
    config = getattr(transformers, f"{family}Config")(num_labels=5, **sizes, **CONFIGS[family])
    module = getattr(transformers, f"{family}ForImageClassification")(config).eval()
    model = dualcam.wrap(module, preprocessing=Preprocessing(size=(64, 64)))
    check(model)
    own: Tensor = module(noise(model, 1)).logits
    assert own.shape == (1, 5)
    assert offline == []


def test_hugging_face_s_two_heads_on_an_input_that_is_not_square(offline: list[Any]) -> None:
    """A distilled DeiT's class and distillation heads, averaged; patches of 8 x 8 pixels."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.DeiTConfig(num_labels=5, image_size=(64, 96), patch_size=8, **SMALL_VIT)
    model = dualcam.wrap(transformers.DeiTForImageClassificationWithTeacher(config).eval())
    assert (model.anatomy.grid, model.anatomy.cells.leading) == ((8, 12), 2)
    assert len(model.sigmoid_head.last_layers()) == 2
    check(model)
    assert offline == []
