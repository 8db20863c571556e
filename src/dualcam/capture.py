"""Hooks on single layers; each lives inside a ``with`` block. Only this file and `recording` touch hooks."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dualcam.guards import uncompiled


class TailSkipped(Exception):
    """Raised inside a forward to leave it once the activations are known."""


@dataclass
class Tap:
    """Holds the output of the tapped layer after the forward."""

    value: Tensor | None = None


def first_tensor(value: Any) -> Tensor | None:
    """Return the first tensor of a tensor, a mapping or a sequence; None where there is none."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            found = first_tensor(item)
            if found is not None:
                return found
    return None


@contextmanager
def tapped(layer: nn.Module, *, skip_tail: bool = False) -> Iterator[Tap]:
    """Keep ``layer``'s output of the forward that runs inside the block.

    The reference is read after the forward, so an in-place activation that follows the layer is part of the value.
    With ``skip_tail`` the forward is left right after the layer; the block swallows that exit. Forwards of other
    threads through the same layer are left alone.
    """
    tap = Tap()
    owner = threading.get_ident()

    def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
        if threading.get_ident() != owner:
            return
        tap.value = first_tensor(output)
        if skip_tail:
            raise TailSkipped

    handle = layer.register_forward_hook(keep)
    try:
        with uncompiled():
            yield tap
    except TailSkipped:
        pass
    finally:
        handle.remove()


@contextmanager
def fed(layer: nn.Module) -> Iterator[Tap]:
    """Keep what ``layer`` is given in the forward that runs inside the block; its graph is kept with it."""
    tap = Tap()

    def keep(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
        tap.value = first_tensor(inputs)

    handle = layer.register_forward_pre_hook(keep)
    try:
        yield tap
    finally:
        handle.remove()


@contextmanager
def changed(layer: nn.Module, change: Callable[[Tensor], Tensor], *, record: bool = False) -> Iterator[None]:
    """Replace ``layer``'s output by ``change`` of it in the forward that runs inside the block.

    With ``record``, gradients are recorded from there on; the caller leaves the grad mode that the block runs under
    after it, which restores the mode. Forwards of other threads through the same layer are left alone.
    """
    owner = threading.get_ident()

    def replace_output(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        value = first_tensor(output)
        if threading.get_ident() != owner or value is None:
            return None
        if record:
            torch.set_grad_enabled(True)
        return with_tensor(output, value, change(value))

    handle = layer.register_forward_hook(replace_output)
    try:
        with uncompiled():
            yield
    finally:
        handle.remove()


@dataclass
class Read:
    """Holds the inputs of some modules after the forward, in the modules' order."""

    values: list[Tensor | None]


@contextmanager
def inputs_read(modules: Sequence[nn.Module], *, skip_rest: bool = False) -> Iterator[Read]:
    """Keep the input of each of ``modules`` in the forward that runs inside the block.

    With ``skip_rest`` the forward is left once all are known; the block swallows that exit. Forwards of other threads
    are left alone.
    """
    read = Read([None] * len(modules))
    owner = threading.get_ident()

    def reader(place: int) -> Any:
        def keep(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if threading.get_ident() != owner:
                return
            read.values[place] = first_tensor(args) if args else first_tensor(kwargs)
            if skip_rest and all(value is not None for value in read.values):
                raise TailSkipped

        return keep

    handles = [
        module.register_forward_pre_hook(reader(place), with_kwargs=True) for place, module in enumerate(modules)
    ]
    try:
        with uncompiled():
            yield read
    except TailSkipped:
        pass
    finally:
        for handle in handles:
            handle.remove()


def with_tensor(output: Any, old: Tensor, new: Tensor) -> Any:
    """Return a module's ``output`` with the tensor ``old`` in it replaced by ``new``."""
    if output is old:
        return new
    if isinstance(output, dict):
        changed = copy(output)
        for key, value in output.items():
            if value is not None:
                changed[key] = with_tensor(value, old, new)
        return changed
    if isinstance(output, list | tuple):
        items = [with_tensor(item, old, new) for item in output]
        return type(output)(*items) if hasattr(output, "_fields") else type(output)(items)
    return output


def has_hooks(module: nn.Module) -> bool:
    """Whether somebody's hooks would see a forward or a backward of ``module`` itself."""
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )
