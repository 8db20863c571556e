"""Borrow a user's model and give it back as it was, also after an exception."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Run ``modules`` in eval mode (no dropout, running batch statistics untouched); restore every submodule's mode.

    Only modules that are in train mode are touched, so that two threads can share a model that is in eval mode.
    """
    training = [module for root in modules for module in _walk(root) if module.training]
    try:
        for module in training:
            module.training = False
        yield
    finally:
        for module in training:
            module.training = True


def _walk(root: nn.Module) -> Iterator[nn.Module]:
    """Yield ``root`` and all below it, like its own ``modules`` but many times faster: this runs in every call."""
    left = [root]
    while left:
        module = left.pop()
        yield module
        left.extend(child for child in module._modules.values() if child is not None)


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
