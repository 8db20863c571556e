"""Networks with a new last layer: all of torchvision's kinds, and the localization literature's."""

import pytest
import torch
from torch import nn

from dualcam import sources
from dualcam.classifier.network import make_ready, rate_groups, set_modes
from dualcam.classifier.settings import ClassifierSettings
from dualcam.errors import ModelError
from dualcam.sources import LoadOptions
from tests.models import PREPROCESSING, SIZE, tiny

HEADS = {
    "torchvision:resnet18": "fc",
    "torchvision:mobilenet_v2": "classifier.1",
    "torchvision:squeezenet1_1": "classifier.1",
    "torchvision:googlenet": "fc",
    "timm:test_resnet": "fc",
    "wsol:resnet50-14": "fc",
    "wsol:vgg16-14": "3",
    "wsol:inception_v3-28": "classifier",
}


@pytest.mark.parametrize("name", HEADS)
def test_the_last_layer_is_made_anew_and_the_rest_stays(name: str) -> None:
    size = (64, 64) if not name.startswith("timm") else (160, 160)
    start = sources.load(name, LoadOptions("random"))
    before = {key: value.clone() for key, value in start.module.state_dict().items()}
    head = make_ready(start.module, size, 7, seed=3)
    assert head == HEADS[name]
    after = start.module.state_dict()
    for key, value in after.items():
        assert key.startswith(f"{head}.") or torch.equal(value, before[key])
    assert {key for key in before if key not in after} == {key for key in before if key.startswith(("aux", "Aux"))}
    assert after[f"{head}.weight"].shape[0] == 7
    start.module.train()
    assert start.module(torch.randn(2, 3, *size)).shape == (2, 7), "no side heads in train mode either"


def test_the_new_layer_is_that_of_the_seed() -> None:
    weights = []
    for seed in (0, 0, 1):
        module = tiny("pooled-linear", dtype=torch.float32)
        state = torch.random.get_rng_state()
        head = make_ready(module, SIZE, 3, seed=seed)
        assert torch.equal(state, torch.random.get_rng_state())
        weights.append(module.get_submodule(head).weight)
    assert torch.equal(weights[0], weights[1])  # type: ignore[arg-type]
    assert not torch.equal(weights[0], weights[2])  # type: ignore[arg-type]


def test_a_layer_that_fits_is_kept_if_asked() -> None:
    module = tiny("mlp", dtype=torch.float32)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    make_ready(module, SIZE, 5, seed=0, keep=True)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    make_ready(module, SIZE, 5, seed=0)
    assert any(not torch.equal(value, before[key]) for key, value in module.state_dict().items())


class TwoHeads(nn.Module):
    """Logits are the mean of two linear heads, as in a distilled DeiT: one new layer is not enough."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 4, 3)
        self.one, self.two = nn.Linear(4, 5), nn.Linear(4, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pooled = self.body(images).relu().mean((2, 3))
        logits: torch.Tensor = (self.one(pooled) + self.two(pooled)) / 2
        return logits


def test_networks_without_one_last_layer_say_so() -> None:
    with pytest.raises(ModelError):
        make_ready(TwoHeads(), SIZE, 3, seed=0)


def test_rates_and_modes() -> None:
    start = sources.load("wsol:vgg16-14", LoadOptions("random"))
    head = make_ready(start.module, (64, 64), 3, seed=0)
    settings = ClassifierSettings(head_lr_factor=7)
    groups = dict(rate_groups(start.module, head, start.fresh, settings))
    fast = {id(parameter) for parameter in groups[7]}
    named = {name for name, parameter in start.module.named_parameters() if id(parameter) in fast}
    assert named == {"0.30.weight", "0.30.bias", "3.weight", "3.bias"}, "the added convolution and the new head"
    assert len(groups[1.0]) == 26
    settings = ClassifierSettings(train="head")
    module = tiny("pooled-linear", dtype=torch.float32)
    head = make_ready(module, PREPROCESSING.size, 3, seed=0)
    (only,) = rate_groups(module, head, (), settings)
    assert [tuple(parameter.shape) for parameter in only[1]] == [
        tuple(p.shape) for p in module.get_submodule(head).parameters()
    ]
    set_modes(module, head, settings)
    assert [name for name, part in module.named_modules() if part.training] == [head]
    assert [name for name, p in module.named_parameters() if p.requires_grad] == [f"{head}.weight", f"{head}.bias"]


def test_fresh_layers_exist() -> None:
    for name in ("wsol:vgg16-28", "wsol:inception_v3-14", "wsol:resnet50-28"):
        start = sources.load(name, LoadOptions("random"))
        for path in start.fresh:
            assert any(True for _ in start.module.get_submodule(path).parameters()), path
