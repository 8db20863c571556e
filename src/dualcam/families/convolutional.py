"""Pooled activations: maps [B, D, h, w] or tokens [B, N, D], then a plain chain of pooling, norms and layers.

The chain is read backwards from the logits: each step is the module whose recorded output is the next one's input,
or a parameter-free operation (`dualcam.heads.GLUE`) between two modules, recognised by its numbers.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from dualcam.anatomy import Found, Probe
from dualcam.cells import Cells
from dualcam.heads import ACTIVATIONS, GLUE
from dualcam.recording import Call
from dualcam.types import Layout

PRIORITY = 50
LOOK_BACK = 24
MAX_STEPS = 24
POOLED = [("flatten",), ("mean over cells",), ("global average pool",), ("global average pool", "flatten")]
BRIDGES: list[tuple[str, ...]] = [
    *POOLED,
    ("mean over cells (NHWC)",),
    ("to NCHW",),
    ("to NHWC",),
    *((activation,) for activation in sorted(ACTIVATIONS)),
    *((activation, *pooled) for activation in sorted(ACTIVATIONS) for pooled in POOLED),
]
ELEMENTWISE = (nn.Dropout, nn.Dropout2d, nn.Identity, nn.AlphaDropout)


@dataclass
class Chain:
    """The steps found so far, first step first, and the tensor that feeds them."""

    source: Tensor
    steps: list[nn.Module | str] = field(default_factory=list)

    def prepend(self, *steps: nn.Module | str) -> None:
        """Put steps before those found so far."""
        self.steps[:0] = steps

    @property
    def has_parameters(self) -> bool:
        """Whether any step found so far has parameters."""
        return any(isinstance(step, nn.Module) and next(step.parameters(), None) is not None for step in self.steps)


def find(probe: Probe, layer: str | None) -> Found | None:
    """Walk back from the logits to the last spatial activations, or to ``layer``."""
    calls = _outer_units([call for call in probe.recording.calls if call.path])
    chain = Chain(probe.logits)
    position = reader = len(calls)  # where the step after chain.source was called; and the first reader of that tensor
    for _ in range(MAX_STEPS):
        makers = [(index, call) for index, call in enumerate(calls[:position]) if call.output is chain.source]
        if not makers:
            tokens = _pooled_tokens(probe, calls[:position], chain, layer)
            if tokens is not None:
                return tokens
            bridge = _bridge(calls[:position], chain.source)
            if bridge is None:
                return None
            call, names = bridge
            chain.prepend(*names)
            chain.source = call.output
            continue
        if layer is not None:
            if any(call.path == layer and call.output is chain.source for call in calls[:reader]):
                return _found(probe, layer, chain)
        elif _is_spatial(chain.source) and not _belongs_to_head(makers, chain, probe.classes):
            candidates = [call for call in calls[:reader] if call.output is chain.source]
            return _found(probe, min(candidates, key=lambda call: call.depth).path, chain)
        index, call = _innermost(makers)
        if not call.inputs:
            return None
        if not isinstance(call.module, ELEMENTWISE):
            chain.prepend(call.module)
        if call.inputs[0] is not chain.source:
            reader = index
        chain.source = call.inputs[0]
        position = index
    return None


def _outer_units(calls: list[Call]) -> list[Call]:
    """Leave out what runs inside a module that works as one piece, such as the activation inside a fused norm."""
    units = {call.path for call in calls if call.is_unit}

    def is_inside(path: str) -> bool:
        parts = path.split(".")
        return any(".".join(parts[:length]) in units for length in range(1, len(parts)))

    return [call for call in calls if not is_inside(call.path)]


def _found(probe: Probe, path: str, chain: Chain) -> Found | None:
    steps = list(chain.steps)
    post = None
    if steps and isinstance(steps[0], str) and steps[0] in ACTIVATIONS:
        post = steps.pop(0)
    layout = _layout(chain.source, steps)
    if chain.source.dim() != 4 or (probe.layout or layout) == "tokens":
        return None
    shape = chain.source.shape
    grid = (shape[1], shape[2]) if (probe.layout or layout) == "NHWC" else (shape[2], shape[3])
    cells = Cells(probe.layout or layout, grid, probe.size)
    return Found(path, chain.source, cells, post if isinstance(post, str) else None, tuple(steps))


def _pooled_tokens(probe: Probe, calls: list[Call], chain: Chain, layer: str | None) -> Found | None:
    """Find a call whose output is tokens of which those on the grid have the mean ``chain.source``."""
    if chain.source.dim() != 2:
        return None
    for call in reversed(calls[-LOOK_BACK:]):
        cells = probe.cells_of(call.output) if call.output.dim() == 3 else None
        if cells is None or call.output.shape[0] != len(chain.source) or call.output.dtype != chain.source.dtype:
            continue
        pooled = cells.take(call.output, probe.size).mean((2, 3))
        if pooled.shape != chain.source.shape or not torch.allclose(pooled, chain.source, rtol=1e-5, atol=1e-6):
            continue
        same = [other for other in calls if other.output is call.output and layer in (None, other.path)]
        if not same:
            return None
        path = min(same, key=lambda other: other.depth).path
        return Found(path, call.output, cells, None, ("mean over cells", *chain.steps))
    return None


def _layout(source: Tensor, steps: list[nn.Module | str]) -> Layout:
    """Return NHWC where the first step averages over the middle axes; the step is then rewritten to follow suit."""
    if not steps or source.dim() != 4:
        return "NCHW"
    first = steps[0]
    if isinstance(first, str):
        if first == "mean over cells (NHWC)":
            steps[0] = "mean over cells"
            return "NHWC"
        if first == "to NCHW":
            del steps[0]
            return "NHWC"
        return "NCHW"
    pooled = first(source)
    channels_last = pooled.flatten(1).shape[1] == source.shape[3] != source.shape[1]
    if channels_last and torch.allclose(pooled.flatten(1), source.mean((1, 2)), rtol=1e-4, atol=1e-5):
        steps.insert(0, "to NHWC")
        return "NHWC"
    return "NCHW"


def _innermost(makers: list[tuple[int, Call]]) -> tuple[int, Call]:
    """Return the latest unit that made the tensor, else the smallest container."""
    units = [(index, call) for index, call in makers if call.is_unit]
    return units[-1] if units else max(makers, key=lambda item: item[1].depth)


def _is_spatial(tensor: Tensor) -> bool:
    return tensor.dim() == 4 and tensor.shape[2] * tensor.shape[3] > 1


def _belongs_to_head(makers: list[tuple[int, Call]], chain: Chain, classes: int) -> bool:
    """Whether the maker of spatial ``chain.source`` is pooling, dropout, or the layer that makes a map of logits."""
    module = _innermost(makers)[1].module
    if isinstance(module, ELEMENTWISE):
        return True
    has_parameters = next(module.parameters(), None) is not None
    if "AvgPool" in type(module).__name__ and not has_parameters:
        return True
    is_logit_map = chain.source.shape[1] == classes and not chain.has_parameters
    if not is_logit_map:
        return False
    is_score_layer = isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1)
    return is_score_layer or not has_parameters


def _bridge(calls: list[Call], target: Tensor) -> tuple[Call, tuple[str, ...]] | None:
    """Find a call and the parameter-free operations that turn its output into ``target``."""
    recent = list(reversed(calls))[:LOOK_BACK]
    for exact in (True, False):
        for call in recent:
            for names in BRIDGES:
                value = _apply(names, call.output, target)
                if value is None or value.shape != target.shape or value.dtype != target.dtype:
                    continue
                same = torch.equal(value, target) if exact else torch.allclose(value, target, rtol=1e-5, atol=1e-6)
                if same:
                    return call, names
    return None


def _apply(names: tuple[str, ...], value: Tensor, target: Tensor) -> Tensor | None:
    """Apply the operations, or return None where the dimensions can not fit."""
    if value.dim() != 4 and any(name not in ACTIVATIONS and name != "flatten" for name in names):
        return None
    if value.dim() < 2 or value.shape[0] != target.shape[0] or value.numel() < target.numel():
        return None
    for name in names:
        value = GLUE[name](value)
    return value
