"""Batch norms in eval mode are affine: folded into the convolutions before them, they cost nothing."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from dualcam.capture import has_hooks
from dualcam.recording import recorded, running

FROZEN_NORMS = frozenset({"FrozenBatchNorm2d", "FrozenBatchNormAct2d"})
TOLERANCE = 1e-5
"""How far a folded convolution may be from convolution and norm, on noise, by the largest value."""


@dataclass(frozen=True)
class Pair:
    """A convolution, the batch norm that alone reads it, and what the norm does after its affine map."""

    convolution: nn.Conv2d
    norm: nn.Module
    rest: nn.Module


@dataclass(frozen=True)
class Folded:
    """How many batch norms were folded, of how many that ran."""

    folded: int
    norms: int


class Reads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes, while entered, which modules' own forwards read a tensor, by whatever operation."""

    def __init__(self, stack: list[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._stack = stack
        self._readers: Any = WeakTensorKeyDictionary()  # an id alone may pass on to a later tensor

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note the tensors that ``func`` is called with, then call it."""
        for tensor in _tensors((args, kwargs or {})):
            self._readers.setdefault(tensor, set()).add(self._stack[-1] if self._stack else None)
        return func(*args, **(kwargs or {}))

    def of(self, tensor: Tensor) -> set[str | None]:
        """Return the paths of the modules that read ``tensor``; None stands for a reader outside of the model."""
        found: set[str | None] = self._readers.get(tensor, set())
        return found


def fold_batch_norms(model: nn.Module, images: Tensor, *, layer: str, spared: Collection[nn.Module]) -> Folded:
    """Fold the batch norms of ``model`` (in eval mode, without autograd) into the convolutions before them, in place.

    A norm is folded if, in a forward of ``images``, its input is a convolution's output that nothing else reads, both
    run once, neither carries hooks, and the folded convolution does on noise what the two did. The output of
    ``layer`` stays what it is; modules in ``spared`` are left alone.
    """
    pairs, norms = _find_pairs(model, images, layer)
    swapped: dict[nn.Module, nn.Module] = {}
    for pair, shape in pairs:
        if pair.convolution in spared or pair.norm in spared:
            continue
        if _fold(pair, torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(images)):
            swapped[pair.norm] = pair.rest
    _swap(model, swapped)
    return Folded(len(swapped), norms)


def _find_pairs(model: nn.Module, images: Tensor, layer: str) -> tuple[list[tuple[Pair, torch.Size]], int]:
    """Return the pairs that can be folded by what a forward shows, with the shapes of their inputs; and all norms."""
    with running(model) as stack, recorded(model) as recording, Reads(stack) as reads:
        model(images)
    times = Counter(call.module for call in recording.calls)
    tapped = {id(call.output) for call in recording.calls if call.path == layer}
    makers = {id(call.output): call for call in recording.calls if _is_convolution(call.module)}
    found: list[tuple[Pair, torch.Size]] = []
    norms = [call for call in recording.calls if _is_batch_norm(call.module)]
    for call in norms:
        maker = makers.get(id(call.inputs[0])) if call.inputs else None
        rest = _rest_of(call.module)
        if maker is None or rest is None or id(maker.output) in tapped:
            continue
        alone = times[maker.module] == times[call.module] == 1 and reads.of(maker.output) == {call.path}
        if alone and maker.inputs and not has_hooks(maker.module) and not has_hooks(call.module):
            assert isinstance(maker.module, nn.Conv2d)
            found.append((Pair(maker.module, call.module, rest), maker.inputs[0].shape))
    return found, len(norms)


def _fold(pair: Pair, noise: Tensor) -> bool:
    """Give the convolution the norm's scale and shift; take them back, and return False, where noise tells them apart.

    The pair is asked itself, not only its types: a subclass may compute something else with the same parameters.
    """
    convolution, norm = pair.convolution, pair.norm
    weight, bias = convolution.weight, convolution.bias
    before = norm(convolution(noise))
    scale, shift = _affine(norm)
    shift = shift if bias is None else shift + bias.double() * scale
    convolution.weight = nn.Parameter((weight.double() * scale.view(-1, 1, 1, 1)).to(weight), requires_grad=False)
    convolution.bias = nn.Parameter(shift.to(weight), requires_grad=False)
    difference = (pair.rest(convolution(noise)) - before).abs().max()
    if difference <= TOLERANCE * before.abs().max():
        return True
    convolution.weight, convolution.bias = weight, bias
    return False


def _affine(norm: Any) -> tuple[Tensor, Tensor]:
    """Return scale and shift [D] of a batch norm in eval mode, in double precision."""
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    shift = -norm.running_mean.double() * scale
    return scale, shift if norm.bias is None else shift + norm.bias.double()


def _is_convolution(module: nn.Module) -> bool:
    """Whether the weight of a convolution is a parameter of its own, not computed from others."""
    return isinstance(module, nn.Conv2d) and module._parameters.get("weight") is not None


def _is_batch_norm(module: nn.Module) -> bool:
    known = isinstance(module, _BatchNorm) or type(module).__name__ in FROZEN_NORMS
    return known and getattr(module, "running_mean", None) is not None


def _rest_of(norm: nn.Module) -> nn.Module | None:
    """Return what ``norm`` does after its affine map: nothing, or timm's dropout and activation; None if unknown."""
    if next(norm.children(), None) is None:
        return nn.Identity().train(norm.training)
    parts = dict(norm.named_children())
    if parts.keys() != {"drop", "act"}:
        return None
    rest = nn.Sequential(parts["drop"], parts["act"])
    rest.training = norm.training
    return rest


def _swap(model: nn.Module, swapped: Mapping[nn.Module, nn.Module]) -> None:
    """Put new modules where old ones are, under every name that they have."""
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if child is not None and child in swapped:
                parent._modules[name] = swapped[child]


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
