"""What a user could notice about a model, so that a test can say that nothing of it was left changed."""

import hashlib
from typing import Any

import torch
from torch import Tensor, nn

_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_state_dict_hooks",
)


def snapshot(model: nn.Module) -> dict[str, Any]:
    """Return everything about ``model`` that must outlive a call: values, gradients, flags, modes and hooks."""
    seen: dict[str, Any] = {}
    for name, module in model.named_modules():
        seen[f"mode of {name}"] = module.training
        for hooks in _HOOKS:
            seen[f"{hooks} of {name}"] = list(getattr(module, hooks))
        seen[f"attributes of {name}"] = sorted(vars(module))
        seen[f"type of {name}"] = type(module)
    for name, parameter in model.named_parameters():
        seen[f"parameter {name}"] = _facts(parameter)
        seen[f"grad of {name}"] = None if parameter.grad is None else (id(parameter.grad), _facts(parameter.grad))
    for name, buffer in model.named_buffers():
        seen[f"buffer {name}"] = _facts(buffer)
    return seen


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return the names of what differs between two snapshots."""
    return sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))


def _facts(tensor: Tensor) -> tuple[Any, ...]:
    flat = tensor.detach().cpu().contiguous().flatten()
    values = hashlib.blake2b(flat.view(torch.uint8).numpy().data, digest_size=16).hexdigest()
    return id(tensor), tensor.dtype, tensor.device, tensor.requires_grad, tensor.is_leaf, tensor.stride(), values
