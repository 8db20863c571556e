"""A network made ready for other classes: a new last layer, and which parameters learn how fast."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from dualcam.classifier.settings import ClassifierSettings
from dualcam.errors import ModelError
from dualcam.examine import examine

AUXILIARY = ("AuxLogits", "aux1", "aux2")
"""Side heads of Inception and GoogLeNet, which their forward runs in train mode only."""


def make_ready(module: nn.Module, size: tuple[int, int], classes: int, *, seed: int, keep: bool = False) -> str:
    """Give ``module`` a last layer for ``classes``, in place; return its path. ``keep`` leaves a fitting one as it is.

    The last layer is the linear layer or convolution that makes the logits; the new one has its kind, drawn by
    ``seed``. Side heads for training are taken off. Raises `ModelError` where there is no such layer, or the network
    has others that make logits too.
    """
    drop_side_heads(module)
    last = examine(module, size).head.last_layer()
    path: str | None = next((name for name, part in module.named_modules() if part is last), None)
    if last is None or path is None:
        raise ModelError("the network has no linear last layer that could be made anew for other classes")
    if not (keep and _outputs(last) == classes):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module.set_submodule(path, _like(last, classes))
    if isinstance(getattr(module, "num_classes", None), int):
        setattr(module, "num_classes", classes)  # noqa: B010  - timm's, unknown to the type of a module
    with torch.no_grad():
        parameter = next(module.parameters())
        logits = module.eval()(torch.zeros(1, 3, *size, dtype=parameter.dtype, device=parameter.device))
    if not isinstance(logits, Tensor) or logits.shape != (1, classes):
        raise ModelError(
            f"with {classes} classes in {path} the network's output is not [B, {classes}]; it has other layers that "
            "make logits"
        )
    return path


def drop_side_heads(module: nn.Module) -> None:
    """Take the side heads off, in place."""
    for name in AUXILIARY:
        if isinstance(getattr(module, name, None), nn.Module):
            setattr(module, name, None)
    if getattr(module, "aux_logits", False):
        setattr(module, "aux_logits", False)  # noqa: B010  - torchvision's


def rate_groups(
    module: nn.Module, head: str, fresh: tuple[str, ...], settings: ClassifierSettings
) -> list[tuple[float, list[nn.Parameter]]]:
    """Return (factor of the learning rate, parameters): pretrained layers, then those that are not (``fresh``, head).

    With ``train="head"`` there is the head alone, and the other parameters are taken out of autograd.
    """
    new = [module.get_submodule(path) for path in (head, *fresh)]
    factors = {id(parameter): settings.head_lr_factor for part in new for parameter in part.parameters()}
    groups: dict[float, list[nn.Parameter]] = {}
    learning = set(module.get_submodule(head).parameters()) if settings.train == "head" else set(module.parameters())
    for parameter in module.parameters():
        parameter.requires_grad_(parameter in learning)
        if parameter in learning:
            groups.setdefault(factors.get(id(parameter), 1.0), []).append(parameter)
    return sorted(groups.items())


def set_modes(module: nn.Module, head: str, settings: ClassifierSettings) -> None:
    """Put what learns into train mode, and what does not into eval mode: no batch statistics move there."""
    module.train(settings.train == "all")
    module.get_submodule(head).train()


def buffers(module: nn.Module) -> Iterator[Tensor]:
    """Yield the buffers with numbers, such as running statistics."""
    return (buffer for buffer in module.buffers() if buffer.numel())


def _outputs(layer: nn.Linear | nn.Conv2d) -> int:
    return layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels


def _like(layer: nn.Linear | nn.Conv2d, classes: int) -> nn.Module:
    weight, biased = layer.weight, layer.bias is not None
    if isinstance(layer, nn.Linear):
        return nn.Linear(layer.in_features, classes, bias=biased, device=weight.device, dtype=weight.dtype)
    return nn.Conv2d(layer.in_channels, classes, 1, bias=biased, device=weight.device, dtype=weight.dtype)
