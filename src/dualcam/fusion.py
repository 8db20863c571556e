"""Maps of several layers in one: finer than the last layer's, of more meaning than the first's.

Any gradient method makes the layers' maps; how they come together is LayerCAM's (Jiang et al., TIP 2021, sec. III-C).
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from dualcam.capture import changed
from dualcam.cells import Cells, cells_of
from dualcam.errors import ModelError
from dualcam.evidence import full
from dualcam.guards import evaluating
from dualcam.heatmap import combine, weight_parts
from dualcam.methods import Method
from dualcam.model import DualBranch
from dualcam.targets import score_values
from dualcam.tuning import Tuning
from dualcam.types import Branch, Evidence, Fuse, Score, Sign

STEEPNESS = 2.0
"""LayerCAM's factor inside of tanh, which lifts the weak values of shallow layers' maps."""


class LayersRun(NamedTuple):
    """One forward, recorded: F [B, D, h, w] of each layer, and the explained scores [K], summed over the images."""

    activations: tuple[Tensor, ...]
    totals: Tensor


def run_layers(
    model: DualBranch,
    images: Tensor,
    index: Tensor,
    layers: Sequence[str],
    branch: Branch,
    score: Score,
    tuning: Tuning,
) -> LayersRun:
    """Run the model once, recorded from the first of ``layers`` on, up to the scores of the classes ``index`` [B, K].

    Raises `ModelError` where a layer has no cells, or does not run before the head.
    """
    head, taps = model.head(branch), dict.fromkeys(layers)
    with torch.inference_mode(mode=False), torch.no_grad(), evaluating(model, head):
        found: dict[str, Tensor] = {}
        with ExitStack() as opened:
            for path in taps:
                if path != model.anatomy.layer or head.reads_features:
                    layer = model.classifier.get_submodule(path)
                    opened.enter_context(changed(layer, _opening(model, path, images, found), record=True))
            inputs = model.tail().features(images) if head.reads_features else model.activations(images)
        with torch.enable_grad():
            if model.anatomy.layer in taps and not head.reads_features:
                found[model.anatomy.layer] = inputs = _recorded(inputs)
            missing = [path for path in taps if path not in found]
            if missing:
                raise ModelError(f"layer {missing[0]!r} does not run before the head; leave it out")
            logits = head(inputs)
            logits = logits if logits.dtype == torch.float64 else logits.float()
            scores = score_values(logits, score, tuning).gather(1, index.clone())
            return LayersRun(tuple(found[path] for path in taps), scores.sum(0))


def class_evidence(run: LayersRun, place: int) -> list[Evidence]:
    """Return each layer's F [B, 1, D, h, w] and gradients for the class at ``place``; one way back for all layers."""
    with torch.inference_mode(mode=False), torch.enable_grad():
        gradients = torch.autograd.grad(run.totals[place], run.activations, retain_graph=True)
    return [
        Evidence(full(activations.detach()).unsqueeze(1), full(gradient).unsqueeze(1), None)
        for activations, gradient in zip(run.activations, gradients, strict=True)
    ]


def _opening(model: DualBranch, path: str, images: Tensor, found: dict[str, Tensor]) -> Callable[[Tensor], Tensor]:
    """Return what keeps the cells of the layer ``path`` in ``found`` and passes on an output made of them."""
    size = (images.shape[-2], images.shape[-1])

    def open_up(output: Tensor) -> Tensor:
        known: Cells | None = model.anatomy.cells
        if path != model.anatomy.layer:
            known = cells_of(output.shape, size, known=[model.anatomy.grid])
        if known is None:
            raise ModelError(f"layer {path!r} gave {tuple(output.shape)}, which is no grid of cells; leave it out")
        found[path] = _recorded(known.take(output, size))
        return known.put(output, found[path])

    return open_up


def _recorded(activations: Tensor) -> Tensor:
    """Return ``activations`` as a tensor to differentiate by."""
    return activations if activations.requires_grad else activations.detach().clone().requires_grad_()


def fuse_maps(
    found: Sequence[Evidence], method: Method, sign: Sign, how: Fuse, *, clamp_weights: bool = False
) -> Tensor:
    """Return the maps [B, K, h, w] of several layers in one, on the finest of their grids, in [-1, 1].

    Each layer's map is divided by its maximum, those of finer grids than the coarsest go through tanh(2 M), all are
    resized (bilinear) and come together by their "max" or "mean". ``positive`` is the fusion of positive maps,
    ``negative`` minus that of the negative maps turned over, ``signed`` their sum.
    """
    if sign == "signed":
        parts: tuple[Sign, Sign] = ("positive", "negative")
        one, other = (fuse_maps(found, method, part, how, clamp_weights=clamp_weights) for part in parts)
        return one + other
    grids = [(each.activations.shape[-2], each.activations.shape[-1]) for each in found]
    finest, coarsest = max(grids), min(grids)
    turn = 1 if sign == "positive" else -1
    units = []
    for evidence, grid in zip(found, grids, strict=True):
        parts_of = weight_parts(method, evidence)
        raw = turn * combine(parts_of, evidence.activations, sign, clamp_weights=clamp_weights)
        raw = raw.clamp(min=0)
        top = raw.amax((-2, -1), keepdim=True)
        unit = torch.where(top > 0, raw / torch.where(top > 0, top, 1.0), 0.0)
        unit = torch.tanh(STEEPNESS * unit) if grid != coarsest else unit
        units.append(functional.interpolate(unit, finest, mode="bilinear", align_corners=False))
    stacked = torch.stack(units)
    return turn * (stacked.amax(0) if how == "max" else stacked.mean(0))
