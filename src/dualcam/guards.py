"""Borrow a user's model and give it back as it was, also after an exception."""

import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

_LOCK = threading.Lock()
_HELD: dict[nn.Module, int] = {}
"""Modules that `evaluating` took out of train mode, with the number of blocks that still need them so."""
_EAGER: list[ExitStack] = []
"""The stance that `uncompiled` set, once for each block that still needs it."""
_UNFUSED: list[ExitStack] = []
"""The kernels that `unfused_attention` chose, once for each block that still needs them."""


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Run ``modules`` in eval mode (no dropout, running batch statistics untouched); restore every submodule's mode.

    Only modules that are in train mode are touched. Threads that share a model in train mode share the block: its
    modules go back into train mode when the last one leaves.
    """
    with _LOCK:
        training = _in_train_mode(modules)
        for module in training:
            module.training = False
            _HELD[module] = _HELD.get(module, 0) + 1
    try:
        yield
    finally:
        with _LOCK:
            for module in training:
                _HELD[module] -= 1
                if not _HELD[module]:
                    del _HELD[module]
                    module.training = True


def _in_train_mode(roots: Iterable[nn.Module]) -> list[nn.Module]:
    """Return the modules in and below ``roots`` that are in train mode, or are held in eval mode by another block.

    `nn.Module.modules` takes ten times as long.
    """
    found: list[nn.Module] = []
    left: list[nn.Module | None] = list(roots)
    while left:
        module = left.pop()
        if module is None:
            continue
        if module.training or (_HELD and module in _HELD):
            found.append(module)
        if module._modules:
            left.extend(module._modules.values())
    return found


@contextmanager
def uncompiled() -> Iterator[None]:
    """Let what `torch.compile` made run as it was written: compiled code does not ask for hooks that came after it."""
    if "torch._dynamo" not in sys.modules:  # nothing is compiled, and to load it takes seconds
        yield
        return
    with _while_any(_EAGER, lambda: torch.compiler.set_stance("force_eager")):
        yield


@contextmanager
def unfused_attention() -> Iterator[None]:
    """Compute attention by plain operations: the gradients of the fused kernels can not be differentiated again."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with _while_any(_UNFUSED, lambda: sdpa_kernel(SDPBackend.MATH)):
        yield


@contextmanager
def _while_any(blocks: list[ExitStack], choose: Callable[[], AbstractContextManager[Any]]) -> Iterator[None]:
    """Hold a choice that is the process's: the first of its ``blocks`` makes it, the last takes it back."""
    with _LOCK:
        held = blocks[0] if blocks else ExitStack()
        if not blocks:
            held.enter_context(choose())
        blocks.append(held)
    try:
        yield
    finally:
        with _LOCK:
            blocks.pop()
            if not blocks:
                held.close()


@contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """Take ``modules``' parameters out of autograd; restore each parameter's ``requires_grad``."""
    trainable = [parameter for root in modules for parameter in root.parameters() if parameter.requires_grad]
    try:
        for parameter in trainable:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread: steps of a few milliseconds wait longer for each other's threads than they gain."""
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(threads)
