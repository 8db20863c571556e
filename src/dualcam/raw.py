"""Raw maps from one forward: of many classes in parts of bounded size, or of several layers in one."""

import sys
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dualcam.evidence import HeadRun, full_precision, gather_evidence, with_probes
from dualcam.fusion import class_evidence, fuse_maps, run_layers
from dualcam.guards import evaluating
from dualcam.heads import Head
from dualcam.heatmap import combine, weight_parts
from dualcam.model import DualBranch
from dualcam.probing import LINEAR_SCORES
from dualcam.relevance import attention_evidence
from dualcam.types import Sign

if TYPE_CHECKING:
    from dualcam.explainer import Forward, Settings

AT_ONCE = 2**24
"""Elements of weights or gradients that the maps of several classes are made of at once; 64 MiB in single precision."""
ROWS_AT_ONCE = 2**18
"""The same where a class needs its row alone: a thousand maps are to weigh more than the way to them."""


def make_maps(
    model: DualBranch, forward: "Forward", index: Tensor, settings: "Settings", ran: HeadRun | None = None
) -> tuple[Tensor, Tensor]:
    """Return the maps [B, K, h, w] of the classes ``index`` [B, K], signed and under the sign of ``settings``.

    Many classes are taken in parts, so that what is needed on the way weighs little beside them.
    """
    if settings.layers:
        return _fused(model, forward, index, settings)
    classes = index.shape[1]
    step = _classes_at_once(model.head(settings.branch), forward.activations, settings)
    if step >= classes:
        return _maps_at_once(model, forward, index, settings, ran)
    signed = raw = forward.activations.new_empty(0)
    for start in range(0, classes, step):
        part = slice(start, start + step)
        found = _maps_at_once(model, forward, index[:, part], settings, ran)
        if start == 0:
            signed = found[0].new_empty(len(index), classes, *found[0].shape[2:])
            raw = signed if settings.sign == "signed" else torch.empty_like(signed)
        signed[:, part] = found[0]
        if settings.sign != "signed":
            raw[:, part] = found[1]
    return signed, raw


def _fused(model: DualBranch, forward: "Forward", index: Tensor, settings: "Settings") -> tuple[Tensor, Tensor]:
    """Return the maps of several layers in one, by a forward of their own; class by class, as layers are large."""
    asked = (settings.layers, settings.branch, settings.score, settings.tuning)
    run = run_layers(model, forward.images(model), index, *asked)
    signs: tuple[Sign, ...] = ("signed", settings.sign)
    found = []
    for place in range(index.shape[1]):
        evidence = class_evidence(run, place)
        with torch.no_grad(), full_precision(forward.activations):
            found.append([fuse_maps(evidence, settings.method, sign, settings.fuse) for sign in signs])
    signed, raw = (torch.cat(maps, 1) for maps in zip(*found, strict=True))
    return signed, raw


def _classes_at_once(head: Head, activations: Tensor, settings: "Settings") -> int:
    """Return how many classes' weights, or gradients, are made at once; a method's further forwards are run once."""
    if settings.method.needs:
        return sys.maxsize
    by_channel = head.is_linear and settings.method.total is not None
    shared = by_channel and settings.score in LINEAR_SCORES
    if shared:
        return max(1, ROWS_AT_ONCE // max(1, activations.shape[1], 2 * activations[:, 0].numel()))
    return max(1, AT_ONCE // max(1, activations[:, :, 0, 0].numel() if by_channel else activations.numel()))


def _maps_at_once(
    model: DualBranch, forward: "Forward", index: Tensor, settings: "Settings", ran: HeadRun | None
) -> tuple[Tensor, Tensor]:
    head = model.head(settings.branch)
    asked = (settings.branch, settings.score, settings.tuning)
    if "attention" in settings.method.needs:
        evidence = attention_evidence(model, forward.images(model), index, *asked)
    else:
        with evaluating(head):
            evidence = gather_evidence(head, forward.tapped, index, settings.score, settings.tuning, ran=ran)
        evidence = with_probes(evidence, model, forward, index, settings.method, *asked)
    with torch.no_grad(), full_precision(forward.activations):
        parts = weight_parts(settings.method, evidence)
        signed = combine(parts, evidence.activations, "signed", clamp_weights=settings.clamp_weights)
        if settings.sign == "signed":
            return signed, signed
        return signed, combine(parts, evidence.activations, settings.sign, clamp_weights=settings.clamp_weights)
