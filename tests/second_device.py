"""A second device that computes: for tests of code that must follow the model's device, on a machine that has but one.

Its tensors are real ones of the CPU behind a wrapper that says it lies elsewhere. As with an accelerator, operations
refuse to mix the two (numbers without axes, and indices, may be the CPU's), `.to` and `.cpu` carry across, and NumPy
reads nothing that lies there. The device goes by the name of "meta", since autograd's engine walks that back in the
caller's thread, without a driver.
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

THERE = torch.device("meta")
_ACROSS = {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default}
_BY_INDICES = {
    torch.ops.aten.index.Tensor,
    torch.ops.aten.index_put.default,
    torch.ops.aten.index_put_.default,
    torch.ops.aten._index_put_impl_.default,
}


class Elsewhere(Tensor):
    """A tensor of the second device; its ``numbers`` are on the CPU."""

    numbers: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> "Elsewhere":
        """Return a wrapper of ``inner``, which has no graph."""
        made: Elsewhere = Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=THERE,
        )
        made.numbers = inner
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        """Show the numbers; the default would ask for them operation by operation."""
        return f"Elsewhere({self.numbers!r})"

    def tolist(self) -> Any:
        """Return the numbers, as an accelerator's tensor does."""
        return self.cpu().tolist()

    def __getitem__(self, index: Any) -> Tensor:
        """Read a list of indices before it becomes a tensor of "meta", which would hold none."""
        return super().__getitem__(torch.tensor(index) if isinstance(index, list) else index)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Compute on the CPU, and say that it was elsewhere."""
        return _compute(func, args, dict(kwargs or {}))


class _Made(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Lets tensors be made on the second device, and moved to it."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _compute(func, args, dict(kwargs or {}))


def _compute(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run one operation; raises `RuntimeError` where its tensors are of both devices."""
    tensors = [item for item in tree_leaves((args, kwargs)) if isinstance(item, Tensor)]
    there = any(isinstance(item, Elsewhere) for item in tensors)
    here = [item for item in tensors if not isinstance(item, Elsewhere) and item.dim()]
    if func in _BY_INDICES:
        here = [item for item in here if item is args[0]]
    if there and here and func not in _ACROSS:
        raise RuntimeError(f"{func}: expected all tensors on the same device; {tuple(here[0].shape)} is on the CPU")
    if kwargs.get("device") is not None:
        there = torch.device(kwargs["device"]) == THERE
        kwargs = kwargs | {"device": torch.device("cpu")}
    result = func(*tree_map(_inner, args), **tree_map(_inner, kwargs))
    returns = func._schema.returns
    if returns and returns[0].alias_info is not None and returns[0].alias_info.is_write:
        return kwargs["out"] if "out" in kwargs else args[0]
    return tree_map(lambda item: Elsewhere(item) if there and isinstance(item, Tensor) else item, result)


def _inner(item: Any) -> Any:
    return item.numbers if isinstance(item, Elsewhere) else item


@contextmanager
def second_device(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let tensors be made on `THERE` in the block."""
    make = torch.tensor

    def tensor(data: Any, *, device: Any = None, **options: Any) -> Tensor:
        """Make a tensor where there are numbers, then carry it over: for "meta" none would be read."""
        made = make(data, **options)
        return made if device is None else made.to(device)

    asked, overwriting = torch.is_autocast_enabled, torch.__future__.get_overwrite_module_params_on_conversion()
    fused, optimizers = ["cpu", THERE.type], sys.modules[torch.optim.Optimizer.__module__]
    with monkeypatch.context() as patch, _Made():  # type: ignore[no-untyped-call]
        patch.setattr(torch, "tensor", tensor)
        patch.setattr(torch, "is_autocast_enabled", lambda kind="cpu": kind != THERE.type and asked(kind))
        patch.setattr(optimizers, "_get_fused_kernels_supported_devices", lambda: list(fused))
        torch.__future__.set_overwrite_module_params_on_conversion(True)  # a wrapper's `.data` can not be exchanged
        try:
            yield
        finally:
            torch.__future__.set_overwrite_module_params_on_conversion(overwriting)


def move(model: nn.Module) -> None:
    """Put the parameters and buffers of ``model`` on the second device; those that are shared stay so."""
    moved: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                there = nn.Parameter(Elsewhere(parameter.detach()), requires_grad=parameter.requires_grad)
                module._parameters[name] = moved.setdefault(id(parameter), there)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = Elsewhere(buffer)
