"""Layers that keep the blocked form of their weights: when it is made, when it serves, and where it is left out."""

from collections.abc import Callable
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

TYPES = (torch.float32,)


class Packed(NamedTuple):
    """Weights in blocked form, and what they stand for: a state of the plain weights, and an input's shape.

    ``values`` hold on to the plain weights' memory, so that no others can take its address.
    """

    blocked: Tensor
    weight: Tensor
    values: Tensor
    version: int
    shape: torch.Size

    def stands_for(self, weight: Tensor, shape: torch.Size) -> bool:
        """Whether ``weight`` is what it was."""
        return (
            self.weight is weight
            and self.values.data_ptr() == weight.data_ptr()
            and self.version == weight._version
            and self.shape == shape
        )


class Keeping(nn.Module):
    """The part of a layer that keeps the blocked forms of its weights; the layer says in `_pack` how they are made.

    They do not serve with gradients, autocast, tracing, on other devices and in other types. Copies and pickles leave
    them out.
    """

    def _pack(self, weight: Tensor, shape: torch.Size) -> Tensor:
        raise NotImplementedError

    def blocked(self, name: str, weight: Tensor, shape: torch.Size) -> Tensor:
        """Return the parameter's blocked form for an input of ``shape``, made anew where one of the two has changed."""
        kept: dict[str, Packed] = self.__dict__.setdefault("_packed", {})
        packed = kept.get(name)
        if packed is None or not packed.stands_for(weight, shape):
            with torch.inference_mode(mode=False), torch.no_grad():  # it serves inside and outside of inference mode
                values, version = weight.detach(), weight._version
                kept[name] = packed = Packed(self._pack(values, shape), weight, values, version, shape)
        return packed.blocked

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self.__dict__.pop("_packed", None)  # other types and devices exchange the values below the same parameter
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_packed"}


def serves(input: Tensor, *parameters: Tensor | None) -> bool:
    """Whether blocked forms can compute what a layer's ``parameters`` themselves would of ``input``."""
    return (
        input.dtype in TYPES
        and input.device.type == "cpu"
        and input.layout == torch.strided
        and input.numel() > 0
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        and forward_ad._current_level < 0  # oneDNN's operations would drop the tangents, silently
        and not (torch.is_grad_enabled() and input.requires_grad)
        and all(
            parameter.dtype == input.dtype
            and parameter.device.type == "cpu"
            and not (torch.is_grad_enabled() and parameter.requires_grad)
            and not parameter.is_inference()  # it keeps no count of its changes
            for parameter in parameters
            if parameter is not None
        )
    )
