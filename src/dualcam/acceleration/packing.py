"""Which of a model's layers are packed: plain ones, and of the linear ones those that gain more than a call costs."""

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dualcam.acceleration.packed import PackedAttention, PackedConv2d, PackedLinear, attends_plainly
from dualcam.capture import has_hooks
from dualcam.recording import recorded

PRODUCTS = 1_500_000
"""So many products [multiplications an image] a linear layer must take: below, calling oneDNN costs what it saves."""
ROWS = 4
"""So many tokens an image must bring: for fewer ones reading the weights takes the time, whoever multiplies."""


class Counts(NamedTuple):
    """How many layers of each kind were packed."""

    convolutions: int
    linear: int
    attention: int


def pack_weights(
    model: nn.Module, images: Tensor, spared: Collection[nn.Module], *, forward: Callable[[nn.Module, Tensor], object]
) -> Counts:
    """Put packed layers in the place of ``model``'s plain ones, except ``spared`` ones.

    Linear layers and attention are packed if that pays by what they read in a ``forward`` (model, images).
    """
    shapes = _shapes_of_tokens(model, lambda: forward(model, images))
    new: dict[nn.Module, nn.Module] = {}
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if child is None or child in spared:
                continue
            packed = new.get(child) or _packed_form(child, shapes, len(images))
            if packed is not None:
                new[child] = parent._modules[name] = packed
    kinds = [type(module) for module in new.values()]
    return Counts(kinds.count(PackedConv2d), kinds.count(PackedLinear), kinds.count(PackedAttention))


def _shapes_of_tokens(model: nn.Module, forward: Callable[[], object]) -> dict[nn.Module, torch.Size]:
    """Return the shape that linear layers and attention read in a forward, of those that read one shape alone."""
    with recorded(model) as recording:
        forward()
    found: dict[nn.Module, set[torch.Size]] = {}
    for call in recording.calls:
        if isinstance(call.module, nn.Linear | nn.MultiheadAttention) and call.inputs:
            found.setdefault(call.module, set()).add(call.inputs[0].shape)
    return {module: shapes.pop() for module, shapes in found.items() if len(shapes) == 1}


def _packed_form(module: nn.Module, shapes: Mapping[nn.Module, torch.Size], count: int) -> nn.Module | None:
    """Return the packed layer that can stand for ``module``: of the very type, zeros around the image, no hooks."""
    if has_hooks(module):
        return None
    if type(module) is nn.Conv2d:
        plain = module.padding_mode == "zeros" and not isinstance(module.padding, str) and _has_weight(module)
        return PackedConv2d.of(module) if plain else None
    if module not in shapes:
        return None
    if type(module) is nn.Linear and _has_weight(module):
        return PackedLinear.of(module) if _pays(shapes[module], count, module.out_features) else None
    if type(module) is nn.MultiheadAttention and attends_plainly(module):
        return PackedAttention.of(module) if _pays(shapes[module], count, module.embed_dim) else None
    return None


def _has_weight(module: nn.Module) -> bool:
    """Whether the weight is a parameter of the module's own, not computed from others."""
    return module._parameters.get("weight") is not None


def _pays(shape: torch.Size, count: int, features: int) -> bool:
    """Whether a linear layer from ``shape`` to ``features`` takes less time packed, for each of ``count`` images.

    A row an image is what heads read; they take next to nothing, and may hold the most weights.
    """
    rows = shape.numel() // shape[-1] // count
    return len(shape) > 2 and rows >= ROWS and rows * shape[-1] * features >= PRODUCTS
