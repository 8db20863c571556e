"""Borrow a user's model and give it back as it was, also after an exception."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Run ``modules`` in eval mode (no dropout, running batch statistics untouched); restore every submodule's mode.

    Only modules that are in train mode are touched, so that two threads can share a model that is in eval mode.
    """
    training = _in_train_mode(modules)
    try:
        for module in training:
            module.training = False
        yield
    finally:
        for module in training:
            module.training = True


def _in_train_mode(roots: Iterable[nn.Module]) -> list[nn.Module]:
    """Return the modules in and below ``roots`` that are in train mode; `nn.Module.modules` takes ten times as long."""
    found: list[nn.Module] = []
    left: list[nn.Module | None] = list(roots)
    while left:
        module = left.pop()
        if module is None:
            continue
        if module.training:
            found.append(module)
        if module._modules:
            left.extend(module._modules.values())
    return found


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
