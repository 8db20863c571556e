"""Classifiers of any structure: the last layer alone is the head, and the tail between tap and head stays the model's.

The last layer (or layers: a distilled model's two) is the one whose output makes the logits. The tap is the latest
block or norm whose output lies on a grid and moves the last layer's input in most of its cells: for a class token that
reads the patches in the last attention block, the norm before that attention; for pooled tokens, the last norm.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from dualcam.anatomy import Found, Probe
from dualcam.cells import Cells
from dualcam.guards import frozen
from dualcam.heads import GLUE, SideBySide, TokenLabels, probe_score
from dualcam.proof import MOST_CELLS_HAVE_GRADIENT
from dualcam.recording import Call, differentiated, recorded
from dualcam.tail import join

PRIORITY = 90
AFTER_LAST: list[tuple[str, ...]] = [
    (),
    ("flatten",),
    ("mean over tokens",),
    ("max over tokens",),
    ("mean over cells",),
    ("global average pool", "flatten"),
]
NOT_TAPPED = (nn.Dropout, nn.Dropout2d, nn.AlphaDropout, nn.Softmax, nn.Identity)
PROJECTIONS = (nn.Linear, nn.Conv2d, nn.Conv1d, nn.Embedding)


class LastLayers(NamedTuple):
    """The calls of the last layers, and the steps from their joined inputs to the logits."""

    calls: tuple[Call, ...]
    steps: tuple[nn.Module | str, ...]


class Candidate(NamedTuple):
    """A call whose output lies on a grid."""

    call: Call
    cells: Cells


def find(probe: Probe, layer: str | None) -> Found | None:
    """Find the last layers, then the tap by gradients: one more forward, recorded with a graph.

    Where the first forward did not fit, the graph is that of its kept calls first: the tap is a late one.
    """
    last = next(last_layers(probe), None)
    if last is None:
        return None
    starts = dict.fromkeys((probe.recording.let_go, 0))
    return next((found for first in starts if (found := _find_from(first, probe, last, layer)) is not None), None)


def _find_from(first: int, probe: Probe, last: LastLayers, layer: str | None) -> Found | None:
    """Return what is found by a graph from call number ``first`` on, from the images on where that is 0."""
    paths = tuple(call.path for call in last.calls)
    recording_gradients = differentiated(probe.model, first) if first else torch.enable_grad()
    most = probe.recording.size if first else None
    with frozen(probe.model):
        with recording_gradients, recorded(probe.model, most=most, since=layer) as recording:
            probe.adapter.logits(probe.model, probe.image.detach().clone().requires_grad_(not first).clone())
        inputs = [next(call for call in reversed(recording.calls) if call.path == path).inputs[0] for path in paths]
        with torch.enable_grad():
            features = join(inputs)
            found = choose(probe, recording.calls, probe_score(last.steps, features), layer)
    if found is None or (first and layer is None and isinstance(found.call.module, PROJECTIONS)):
        return None  # a block before the first call is better than a projection after it
    output = found.call.output.detach()
    return Found(found.call.path, output, found.cells, None, last.steps, paths, features.detach())


def last_layers(probe: Probe) -> Iterator[LastLayers]:
    """Yield what makes the logits: one layer, or up to four whose outputs are averaged or added."""
    calls = [call for call in reversed(probe.recording.calls) if _is_score_layer(call, probe)]
    for call in calls:
        for names in AFTER_LAST:
            if _equal(_through(names, call.output), probe.logits):
                yield LastLayers((call,), (call.module, *names))
    for whole, tokens in product(reversed(calls), calls):
        best = _through(("max over tokens",), tokens.output)
        if best is not None and best.shape == whole.output.shape and _equal(whole.output + 0.5 * best, probe.logits):
            yield LastLayers((whole, tokens), (TokenLabels([whole.module, tokens.module]),))
    for count in (2, 3, 4):
        several = tuple(reversed(calls[:count]))
        if len(several) < count or len({call.path for call in several}) < count:
            return
        outputs = [call.output for call in several]
        if any(output.shape != probe.logits.shape for output in outputs):
            continue
        for how in ("mean", "sum"):
            stacked = torch.stack(outputs)
            if _equal(stacked.mean(0) if how == "mean" else stacked.sum(0), probe.logits):
                widths = [call.inputs[0].shape[-1] for call in several]
                kind: Literal["mean", "sum"] = "mean" if how == "mean" else "sum"
                yield LastLayers(several, (SideBySide([call.module for call in several], widths, kind),))


def choose(probe: Probe, calls: Sequence[Call], score: Tensor, layer: str | None) -> Candidate | None:
    """Return the tap: ``layer``, or the latest block or norm by whose cells ``score`` has a gradient."""
    candidates = [
        Candidate(call, cells)
        for call in calls
        if call.path and call.output.requires_grad and (layer is None or call.path == layer)
        if not isinstance(call.module, NOT_TAPPED) or layer is not None
        for cells in [probe.cells_of(call.output)]
        if cells is not None and call.output.shape[0] == probe.image.shape[0]
    ]
    if not candidates or not score.requires_grad:
        return None
    gradients = torch.autograd.grad(score, [item.call.output for item in candidates], allow_unused=True)
    usable = [
        item
        for item, gradient in zip(candidates, gradients, strict=True)
        if layer is not None or _share(gradient, item.cells, probe.size) >= MOST_CELLS_HAVE_GRADIENT
    ]
    if not usable:
        return None
    made: dict[int, int] = {}  # where each tensor was first seen: blocks hand some through as they came
    for place, item in enumerate(candidates):
        made.setdefault(id(item.call.output), place)
    blocks = [item for item in usable if not isinstance(item.call.module, PROJECTIONS)]
    latest = max(blocks or usable, key=lambda item: made[id(item.call.output)])
    same = [item for item in usable if item.call.output is latest.call.output]
    return min(same, key=lambda item: item.call.depth)


def _share(gradient: Tensor | None, cells: Cells, size: tuple[int, int]) -> float:
    return 0.0 if gradient is None else float((cells.take(gradient, size) != 0).any(1).float().mean())


def _is_score_layer(call: Call, probe: Probe) -> bool:
    """Whether the call is of a single layer with parameters whose output has an axis of C scores."""
    is_layer = isinstance(call.module, PROJECTIONS) or next(call.module.children(), None) is None
    if not is_layer or next(call.module.parameters(), None) is None or not call.path or len(call.inputs) != 1:
        return False
    if call.output.dim() < 2 or call.output.shape[0] != probe.image.shape[0]:
        return False
    return probe.classes in (call.output.shape[1], call.output.shape[-1])


def _through(names: tuple[str, ...], value: Tensor) -> Tensor | None:
    for name in names:
        if ("cells" in name or "global" in name) and value.dim() != 4:
            return None
        if "tokens" in name and value.dim() != 3:
            return None
        value = GLUE[name](value)
    return value


def _equal(value: Tensor | None, logits: Tensor) -> bool:
    if value is None or value.shape != logits.shape or value.dtype != logits.dtype:
        return False
    return value is logits or torch.allclose(value, logits, rtol=1e-5, atol=1e-6)
