"""Convolutions that keep their weights in the form that the CPU's library computes with.

PyTorch brings a convolution's weights into oneDNN's blocked form anew in every call, which at batch 1 takes about as
long as the convolution. Here that is done once a shape of the input.
"""

from collections.abc import Callable, Collection
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from dualcam.capture import has_hooks

TYPES = (torch.float32,)


class Packed(NamedTuple):
    """Weights in blocked form, and what they stand for: a state of the plain weights, and an input's shape."""

    blocked: Tensor
    weight: Tensor
    version: int
    shape: torch.Size


class PackedConv2d(nn.Conv2d):
    """A convolution that takes over another's parameters and keeps them in blocked form as well.

    It computes as the other one did where the blocked form does not serve: with gradients, autocast, tracing, on other
    devices and in other types. Copies and pickles leave the blocked form out.
    """

    _packed: Packed | None = None

    @classmethod
    def of(cls, other: nn.Conv2d) -> "PackedConv2d":
        """Return a convolution with the parameters of ``other``, shared with it."""
        new = cls(
            other.in_channels,
            other.out_channels,
            other.kernel_size,  # type: ignore[arg-type]
            other.stride,  # type: ignore[arg-type]
            other.padding,  # type: ignore[arg-type]
            other.dilation,  # type: ignore[arg-type]
            other.groups,
            other.bias is not None,
            device="meta",
        )
        new.weight, new.bias = other.weight, other.bias
        return new.train(other.training)

    def forward(self, input: Tensor) -> Tensor:
        """Return what `torch.nn.Conv2d` does."""
        if not self._serves(input):
            return super().forward(input)
        packed, state = self._packed, (self.weight, self.weight._version, input.shape)
        if packed is None or packed.weight is not state[0] or packed[2:] != state[1:]:
            self._packed = packed = Packed(self._blocked(input.shape), *state)
        output: Tensor = torch.ops.mkldnn._convolution_pointwise.default(
            input, packed.blocked, self.bias, *self._geometry(), "none", [], ""
        )
        return output

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._packed = None  # other types and devices exchange the values below the same parameter
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_packed"}

    def _serves(self, input: Tensor) -> bool:
        return (
            input.dtype in TYPES
            and self.weight.dtype == input.dtype
            and input.device.type == self.weight.device.type == "cpu"
            and input.dim() == 4
            and not (torch.is_grad_enabled() and (input.requires_grad or self.weight.requires_grad))
            and not torch.is_autocast_enabled("cpu")
            and not torch.compiler.is_compiling()
            and not torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
            and not self.weight.is_inference()  # it keeps no count of its changes
            and input.numel() > 0
        )

    def _blocked(self, shape: torch.Size) -> Tensor:
        with torch.inference_mode(mode=False), torch.no_grad():  # it serves calls inside and outside of inference mode
            weight = self.weight.detach()
            blocked: Tensor = torch.ops.mkldnn._reorder_convolution_weight.default(weight, *self._geometry(), shape)
        return blocked

    def _geometry(self) -> tuple[Any, ...]:
        return self.padding, self.stride, self.dilation, self.groups


def pack_convolutions(model: nn.Module, spared: Collection[nn.Module]) -> int:
    """Put packed convolutions in the place of ``model``'s plain ones, except ``spared`` ones; return how many."""
    new: dict[nn.Module, PackedConv2d] = {}
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if child is not None and child not in spared and (child in new or _is_plain(child)):
                assert isinstance(child, nn.Conv2d)
                new[child] = parent._modules[name] = new.get(child) or PackedConv2d.of(child)
    return len(new)


def _is_plain(module: nn.Module) -> bool:
    """Whether the blocked form can stand for ``module``: the type itself, zeros around the image, no hooks."""
    return (
        type(module) is nn.Conv2d
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
        and module._parameters.get("weight") is not None
        and not has_hooks(module)
    )
