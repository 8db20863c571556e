"""Only layers that are what they seem are packed, and of linear ones those that gain by it."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from dualcam.acceleration import packing
from dualcam.acceleration.blocked import Keeping
from dualcam.acceleration.packed import PackedAttention, PackedLinear
from dualcam.acceleration.packing import Counts, pack_weights


@pytest.fixture
def everything_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linear layers of any size are worth it."""
    monkeypatch.setattr(packing, "PRODUCTS", 1)


def run(model: nn.Module, images: Tensor) -> object:
    with torch.no_grad():
        return model(images)


def is_packed(module: nn.Module, images: Tensor) -> bool:
    model = nn.Sequential(module).requires_grad_(False).eval()
    twin = deepcopy(model)
    counts = pack_weights(model, images, set(), forward=run)
    torch.testing.assert_close(run(model, images), run(twin, images), rtol=1e-4, atol=1e-5)
    assert sum(counts) == sum(isinstance(item, Keeping) for item in model.modules())
    return bool(sum(counts))


class OddConvolution(nn.Conv2d):
    """A convolution of the user's own."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.relu(super().forward(input))


class OddLinear(nn.Linear):
    """A linear layer of the user's own."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.relu(super().forward(input))


@pytest.mark.usefixtures("everything_pays")
def test_only_plain_layers_are_replaced() -> None:
    hooked, shared, head = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
    handle = hooked.register_forward_hook(lambda *_: None)
    model = nn.Sequential(
        nn.Conv2d(4, 4, 3, padding=1),
        nn.Conv2d(4, 4, 3, padding="same"),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        OddConvolution(4, 4, 1),
        parametrizations.weight_norm(nn.Conv2d(4, 4, 1)),
        hooked,
        shared,
        shared,
        head,
        nn.Linear(7, 7),
        parametrizations.weight_norm(nn.Linear(7, 7)),
        OddLinear(7, 7),
    ).requires_grad_(False)
    twin, images = deepcopy(model), torch.randn(2, 4, 7, 7)
    assert pack_weights(model, images, {head}, forward=run) == Counts(2, 1, 0)
    packed = [isinstance(module, Keeping) for module in model]
    assert packed == [True, *5 * [False], True, True, False, True, False, False]
    assert model[6] is model[7]
    torch.testing.assert_close(run(model, images), run(twin, images), rtol=1e-5, atol=1e-6)
    handle.remove()


class Mixing(nn.Module):
    """Attention of tokens to themselves."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, tokens: Tensor) -> Tensor:
        mixed: Tensor = self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return mixed


@pytest.mark.usefixtures("everything_pays")
def test_only_plain_attention_is_replaced() -> None:
    def hooked() -> nn.MultiheadAttention:
        attention = nn.MultiheadAttention(8, 2)
        attention.register_forward_hook(lambda *_: None)
        return attention

    tokens = torch.randn(2, 5, 8)
    assert is_packed(Mixing(nn.MultiheadAttention(8, 2)), tokens)
    assert is_packed(Mixing(nn.MultiheadAttention(8, 2, bias=False, batch_first=True)), tokens)
    for other in (
        nn.MultiheadAttention(8, 2, add_bias_kv=True),
        nn.MultiheadAttention(8, 2, add_zero_attn=True),
        parametrizations.orthogonal(nn.MultiheadAttention(8, 2), "in_proj_weight"),
        hooked(),
    ):
        assert not is_packed(Mixing(other), tokens)


def test_a_linear_layer_is_packed_if_that_pays() -> None:
    """As measured on one thread: 197 tokens gain by 192 -> 192 (0.55 of the time), not by 64 -> 64 (1.2)."""
    assert is_packed(nn.Linear(192, 192), torch.randn(1, 197, 192))
    assert not is_packed(nn.Linear(64, 64), torch.randn(1, 197, 64))
    assert not is_packed(nn.Linear(64, 64), torch.randn(8, 197, 64))  # an explanation is of one image as well
    assert is_packed(Mixing(nn.MultiheadAttention(192, 2, batch_first=True)), torch.randn(1, 197, 192))
    assert not is_packed(Mixing(nn.MultiheadAttention(64, 2, batch_first=True)), torch.randn(1, 197, 64))
    assert not is_packed(nn.Linear(1024, 2048), torch.randn(8, 1024))  # the row of a head
    assert not is_packed(nn.Linear(1024, 2048), torch.randn(2, 1, 1024))


class Twice(nn.Module):
    """A linear layer that reads two shapes in a forward: the blocked form would be made twice every time."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.unused = nn.Linear(8, 8)

    def forward(self, tokens: Tensor) -> Tensor:
        once, again = self.linear(tokens), self.linear(tokens[:, :4])
        return torch.cat([once, again], 1)


@pytest.mark.usefixtures("everything_pays")
def test_layers_that_read_two_shapes_or_none_are_left() -> None:
    assert not is_packed(Twice(), torch.randn(2, 9, 8))


def test_what_stands_for_what() -> None:
    linear, attention = nn.Linear(192, 192), nn.MultiheadAttention(192, 2, batch_first=True)
    model = nn.Sequential(linear, Mixing(attention)).requires_grad_(False)
    names = list(model.state_dict())
    assert pack_weights(model, torch.randn(1, 197, 192), set(), forward=run) == Counts(0, 1, 1)
    assert list(model.state_dict()) == names
    assert isinstance(model[0], PackedLinear)
    packed = model[1].attention
    assert isinstance(packed, PackedAttention)
    assert model[0].weight is linear.weight
    assert packed.in_proj_weight is attention.in_proj_weight
