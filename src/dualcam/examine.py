"""Where a classifier keeps its last spatial activations and its head: found by a probe forward, then proven."""

import importlib
import pkgutil
from typing import Any

import torch
from torch import Tensor, nn

from dualcam import families
from dualcam.adapter import Adapter
from dualcam.anatomy import Anatomy, Found, Probe
from dualcam.cells import Cells
from dualcam.errors import ModelError, StructureNotFound, check_size
from dualcam.guards import evaluating
from dualcam.proof import gives_logits, prove
from dualcam.recording import recorded
from dualcam.types import Layout

MOST_KEPT = 2**30
"""Bytes of a forward's tensors that are kept to be looked at: all of most models, the last blocks of the largest."""


def probe_input(model: nn.Module, size: tuple[int, int]) -> Tensor:
    """Return two seeded noise images in the model's own dtype and device."""
    parameter = next((each for each in model.parameters() if each.is_floating_point()), torch.empty(0))
    noise = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    return noise.to(device=parameter.device, dtype=parameter.dtype)


def examine(
    model: nn.Module,
    size: tuple[int, int],
    *,
    layer: str | None = None,
    head: nn.Module | None = None,
    layout: Layout | None = None,
    grid: tuple[int, int] | None = None,
    nonnegative: bool | None = None,
    adapter: Adapter | None = None,
) -> Anatomy:
    """Find the anatomy of ``model`` with a forward on noise of ``size`` (h, w), or take the parts given by hand.

    Raises `StructureNotFound`, naming the candidates, where nothing is found or what was found does not reproduce
    the model's logits.
    """
    check_given(model, layer, head, grid)
    with torch.inference_mode(mode=False), torch.no_grad(), evaluating(model):
        probe = _probed(model, probe_input(model, size), adapter or Adapter(), layer, layout, grid)
        anatomy = _searched(probe, layer, nonnegative) if head is None else _by_hand(probe, layer, head, nonnegative)
    if grid not in (None, anatomy.grid):
        raise StructureNotFound(
            f"grid={grid} is not that of layer {anatomy.layer!r}, which gives {anatomy.grid[0]} x {anatomy.grid[1]} "
            f"cells for {size[0]} x {size[1]} px; leave grid= out, or pass layer= too"
        )
    return anatomy


def check_given(model: nn.Module, layer: Any, head: Any, grid: Any) -> None:
    """Raise `ModelError` where a model can not be looked into, or what is given by hand is of another type."""
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise ModelError(
            "TorchScript modules do not let their layers be read; wrap the torch.nn.Module that they were made of"
        )
    if any(parameter.is_meta for parameter in model.parameters()):
        raise ModelError("the model's parameters are on the meta device, without values; load its weights first")
    if isinstance(layer, nn.Module):
        path = next((path for path, module in model.named_modules() if module is layer), None)
        raise ModelError("layer= is a path" + (f"; that of the module given is {path!r}" if path else ""))
    if head is not None and not isinstance(head, nn.Module):
        raise ModelError(f"head= is a module that maps the layer's output to the logits; got {type(head).__name__}")
    if grid is not None:
        check_size("grid", grid)
    check_layer(model, layer)


def check_layer(model: nn.Module, layer: str | None) -> None:
    """Raise `StructureNotFound` with near names where ``layer`` is no module of ``model``."""
    from difflib import get_close_matches

    paths = [path for path, _ in model.named_modules() if path]
    if layer is not None and layer not in paths:
        near = get_close_matches(layer, paths, n=5, cutoff=0.3) or paths[-5:]
        raise StructureNotFound(f"layer={layer!r} is no module of this model; near names: {', '.join(near)}")


def finders() -> list[Any]:
    """Return the family modules, in order of their ``PRIORITY``; each has ``find(probe, layer) -> Found | None``."""
    modules = [
        importlib.import_module(f"{families.__name__}.{info.name}") for info in pkgutil.iter_modules(families.__path__)
    ]
    return sorted(modules, key=lambda module: int(module.PRIORITY))


def _probed(
    model: nn.Module,
    image: Tensor,
    adapter: Adapter,
    layer: str | None,
    layout: Layout | None,
    grid: tuple[int, int] | None,
) -> Probe:
    with recorded(model, most=MOST_KEPT, since=layer) as recording:
        try:
            logits = adapter.logits(model, image)
        except (RuntimeError, ValueError, AssertionError, TypeError) as error:
            if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
                raise ModelError(
                    f"there is not enough memory to look at every layer of the model on images of shape "
                    f"{tuple(image.shape)}; pass preprocessing=Preprocessing(size=(height, width), ...) with a smaller "
                    f"size, or free some memory"
                ) from error
            raise StructureNotFound(
                f"the model does not take images of shape {tuple(image.shape)} ({error}); "
                f"pass preprocessing=Preprocessing(size=(height, width), ...) with the size it was made for, or "
                f"forward=, a function (model, images) -> output, where images [B, 3, H, W] alone are not its arguments"
            ) from error
    if any(call.output.is_quantized for call in recording.calls):
        raise ModelError("quantized layers give no gradients; wrap the model as it was before it was quantized")
    return Probe(model, adapter, image, recording, logits, layout, grid)


def _searched(probe: Probe, layer: str | None, nonnegative: bool | None) -> Anatomy:
    """Return the first finder's proposal that is proven; the first refusal tells what is wrong where none is."""
    refusal: StructureNotFound | None = None
    for module in finders():
        found: Found | None = module.find(probe, layer)
        if found is None:
            continue
        try:
            return prove(probe, found, nonnegative)
        except StructureNotFound as error:
            refusal = refusal or error
    raise refusal or StructureNotFound(_not_found_message(probe, layer))


def _by_hand(probe: Probe, layer: str | None, head: nn.Module, nonnegative: bool | None) -> Anatomy:
    return prove(probe, _given(probe, layer, head), nonnegative)


def _given(probe: Probe, layer: str | None, head: nn.Module) -> Found:
    if layer is None:
        raise StructureNotFound("head= was given without layer=; name the module whose output the head reads")
    output = next((call.output for call in reversed(probe.recording.calls) if call.path == layer), None)
    cells = None if output is None else probe.cells_of(output)
    if output is not None and output.dim() == 4 and (cells is None or not gives_logits(head, output, cells, probe)):
        shape = output.shape  # a shape can be read in two ways; the head's logits are the proof
        nhwc = probe.layout == "NHWC"
        cells = Cells("NHWC" if nhwc else "NCHW", (shape[1], shape[2]) if nhwc else (shape[2], shape[3]), probe.size)
    if output is None or cells is None:
        came = "nothing" if output is None else str(tuple(output.shape))
        raise StructureNotFound(f"layer={layer!r} gave {came}; expected spatial activations of shape [B, D, h, w]")
    return Found(layer, output, cells, None, (head,))


def _are_normalized(scores: Tensor) -> bool:
    """Whether scores [B, C] are probabilities of classes that exclude each other, or logarithms of such."""
    sums = [each.float().sum(1) for each in (scores, scores.float().exp())]
    return scores.shape[1] > 1 and any(bool(((each - 1).abs() < 1e-4).all()) for each in sums)


def _not_found_message(probe: Probe, layer: str | None) -> str:
    if _are_normalized(probe.logits):
        return (
            "the model ends in a softmax, and dualcam reads logits; wrap the model without it, or pass scores=, a "
            "function that finds the logits in its output"
        )
    spatial = [
        f"{call.path} {tuple(call.output.shape[1:])}"
        for call in probe.recording.calls
        if call.path and call.output.dim() == 4 and call.output.shape[2] * call.output.shape[3] > 1
    ]
    names = ", ".join(dict.fromkeys(spatial[-6:])) or "none"
    if layer is not None:
        return (
            f"the part of the model after layer={layer!r} is not a plain chain of modules that dualcam can copy; "
            f"choose a later layer (last spatial outputs: {names}) or pass head=, a module that maps its output "
            f"to the logits"
        )
    return (
        "the last spatial activations and the head were not found; pass layer=, one of the last spatial outputs "
        f"({names}), and, if that is not enough, head=, a module that maps its output to the logits"
    )
