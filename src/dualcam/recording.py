"""Hooks on all modules of a model: the calls of one forward, as they end or as they run, with gradients or without."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from dualcam.capture import first_tensor, with_tensor
from dualcam.guards import uncompiled

LEAST_CALLS = 128
"""Calls of which a recording keeps the tensors whatever it holds: a few blocks of a transformer."""


@dataclass(frozen=True)
class Call:
    """One module call of a recorded forward, in order of completion. Tensors are references, not copies."""

    path: str
    module: nn.Module
    inputs: tuple[Tensor, ...]
    output: Tensor
    version: int = 0

    @property
    def was_changed(self) -> bool:
        """Whether an operation in place changed the output after the call."""
        return self.output._version != self.version

    @property
    def is_unit(self) -> bool:
        """Whether the module works as one piece: it has no submodules, or parameters of its own beside them."""
        return (
            next(self.module.children(), None) is None or next(self.module.parameters(recurse=False), None) is not None
        )

    @property
    def depth(self) -> int:
        """Nesting depth of the module; the model itself is 0."""
        return self.path.count(".") + 1 if self.path else 0


@dataclass
class Recording:
    """The module calls of one forward: all, or the last ones, before which ``let_go`` others were.

    ``shapes`` are those of the outputs of all calls.
    """

    calls: list[Call] = field(default_factory=list)
    shapes: list[torch.Size] = field(default_factory=list)
    let_go: int = 0
    size: int = 0
    """Bytes of the tensors kept, a view counted as what it looks at."""
    _holders: Counter[int] = field(default_factory=Counter)

    def add(self, call: Call) -> None:
        """Keep ``call``."""
        self.calls.append(call)
        self.shapes.append(call.output.shape)
        for tensor in (call.output, *call.inputs):
            self._holders[id(tensor)] += 1
            self.size += _bytes(tensor) if self._holders[id(tensor)] == 1 else 0

    def let_first_go(self) -> None:
        """Keep the first call no longer."""
        call = self.calls.pop(0)
        self.let_go += 1
        for tensor in (call.output, *call.inputs):
            self._holders[id(tensor)] -= 1
            if not self._holders[id(tensor)]:
                del self._holders[id(tensor)]
                self.size -= _bytes(tensor)


@contextmanager
def recorded(model: nn.Module, *, most: int | None = None, since: str | None = None) -> Iterator[Recording]:
    """Record every module call of the forward that runs inside the block.

    Where the tensors come to more than ``most`` bytes, the first calls are let go: never the last `LEAST_CALLS`, nor
    any from the first call of module ``since`` on.
    """
    recording = Recording()
    handles = []

    def recorder(path: str) -> Any:
        def keep(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            tensor = first_tensor(output)
            if tensor is None:
                return
            tensors = tuple(item for item in inputs if isinstance(item, Tensor))
            recording.add(Call(path, module, tensors, tensor, tensor._version))
            while most is not None and recording.size > most and len(recording.calls) > LEAST_CALLS:
                if recording.calls[0].path == since:
                    break
                recording.let_first_go()

        return keep

    try:
        for path, module in model.named_modules():
            handles.append(module.register_forward_hook(recorder(path)))
        with uncompiled():
            yield recording
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def differentiated(model: nn.Module, first: int) -> Iterator[None]:
    """Let autograd record the forward that runs inside the block from the output of its call number ``first`` on.

    Calls are counted as `recorded` does, from 0. From there on each module's output has a gradient, whatever it was
    made of.
    """
    place = 0
    handles: list[RemovableHandle] = []

    def open_up(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        nonlocal place
        value = first_tensor(output)
        if value is None:
            return None
        place += 1
        if place <= first:
            return None
        torch.set_grad_enabled(True)
        if value.requires_grad or not value.is_floating_point():
            return None
        return with_tensor(output, value, value.detach().requires_grad_().clone())  # a leaf can not be changed in place

    try:
        handles += [module.register_forward_hook(open_up) for module in model.modules()]
        with uncompiled(), torch.no_grad():
            yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def running(model: nn.Module) -> Iterator[list[str]]:
    """Keep the list of the paths of the modules that are running, outermost first, during forwards in the block.

    Forwards of other threads are left alone.
    """
    stack: list[str] = []
    handles = []
    owner = threading.get_ident()

    def opener(path: str) -> Any:
        def enter(_module: nn.Module, _inputs: Any) -> None:
            if threading.get_ident() == owner:
                stack.append(path)

        return enter

    def close(_module: nn.Module, _inputs: Any, _output: Any) -> None:
        if threading.get_ident() == owner:
            stack.pop()

    try:
        for path, module in model.named_modules():
            handles.append(module.register_forward_pre_hook(opener(path)))
            handles.append(module.register_forward_hook(close, always_call=True))
        with uncompiled():
            yield stack
    finally:
        for handle in handles:
            handle.remove()


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
