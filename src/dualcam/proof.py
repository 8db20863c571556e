"""Proof of what a family finder proposes: the model's logits come out, cells lie in place, a linear head is linear."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from dualcam.anatomy import Anatomy, Found, Probe
from dualcam.capture import tapped
from dualcam.cells import Cells, find_order, lies_in_place
from dualcam.errors import StructureNotFound
from dualcam.guards import evaluating
from dualcam.heads import Head, probe_score
from dualcam.tail import Tail
from dualcam.types import HeadKind, Tapped

TOLERANCE = 1e-4
MOST_CELLS_HAVE_GRADIENT = 0.8


def prove(probe: Probe, found: Found, nonnegative: bool | None) -> Anatomy:
    """Return the anatomy that ``found`` proposes; ``nonnegative`` None: as F is on the probe's noise.

    Raises `StructureNotFound` where the proposal does not make the model's logits, its cells do not lie on the grid, or
    most of them have no gradient.
    """
    is_tail = bool(found.readers)
    head = Head(found.steps, "tail" if is_tail else "mlp", probe.classes)
    draft = Anatomy(found.layer, found.cells, found.post, head, 0, nonnegative=False, readers=found.readers)
    if found.cells.layout == "tokens":
        draft = _in_place(probe, draft)
    activations = draft.to_activations(found.output, probe.size)
    inputs = found.features if is_tail else activations
    assert inputs is not None
    with evaluating(head):
        again = head(inputs) if is_tail else _recorded(head, activations)
        if again.shape != probe.logits.shape or not _close(again, probe.logits):
            raise StructureNotFound(
                f"the part after layer {found.layer!r} ({head.describe_steps()}) does not reproduce the model's "
                f"logits; pass layer= and head= by hand"
            )
        if is_tail:
            _prove_tail(probe, draft)
        else:
            head.kind = _kind(found.steps, head, activations)
    return replace(
        draft,
        channels=activations.shape[1],
        nonnegative=bool((activations >= 0).all()) if nonnegative is None else nonnegative,
        can_stop_early=_can_stop_early(probe, found),
    )


def _recorded(head: Head, activations: Tensor) -> Tensor:
    """Return the logits of ``activations``; raises `StructureNotFound` where no gradient comes through the head."""
    logits: Tensor
    if any(parameter.is_inference() for parameter in head.parameters()):
        logits = head(activations)  # made in inference mode, where nothing is recorded; only its copies give gradients
        return logits
    with torch.enable_grad():
        leaf = activations.detach().requires_grad_()
        logits = head(leaf.clone())  # the first step may work in place
        gradient = torch.autograd.grad(logits.sum(), leaf, allow_unused=True)[0] if logits.requires_grad else None
    if gradient is None:
        raise StructureNotFound(
            f"no gradient comes through the head ({head.describe_steps()}), as through quantized layers; wrap the "
            f"model as it was before"
        )
    return logits.detach()


def _prove_tail(probe: Probe, draft: Anatomy) -> None:
    """Open the layer as an explanation does: the logits must be the model's, bit for bit, and gradients arrive.

    Where the model itself rounds otherwise while autograd records, as `torch.nn.MultiheadAttention` does, the logits
    must be as close as its own.
    """
    layers = [probe.model.get_submodule(path) for path in (draft.layer, *draft.readers)]
    tail = Tail(lambda images: probe.adapter.logits(probe.model, images), layers[0], draft.cells, tuple(layers[1:]))
    opened = tail.tap(probe.image)
    same = torch.equal(opened.logits, probe.logits)
    if not same and not (_close(opened.logits, probe.logits) and _rounds_otherwise_recorded(probe)):
        raise StructureNotFound(f"taking the output of layer {draft.layer!r} apart changes the model's logits")
    share = gradient_share(opened, draft.head)
    if share < MOST_CELLS_HAVE_GRADIENT:
        raise StructureNotFound(
            f"the logits depend on {100 * share:.0f} % of the cells of layer {draft.layer!r} only; choose an earlier "
            f"layer, before the last one that mixes cells"
        )


def _rounds_otherwise_recorded(probe: Probe) -> bool:
    """Whether the model's own logits are not the same, bit for bit, while autograd records its forward."""
    with torch.enable_grad():
        logits = probe.adapter.logits(probe.model, probe.image.clone().requires_grad_()).detach()
    return not torch.equal(logits, probe.logits) and _close(logits, probe.logits)


def gradient_share(tapped: Tapped, head: Head) -> float:
    """Return the share [0, 1] of cells by which a class's score can have a gradient that is not zero."""
    features, leaf = tapped.features, tapped.leaf
    if not features.requires_grad or leaf is None:
        return 0.0
    with torch.enable_grad():
        score = probe_score(head.steps(), features)
        (gradient,) = torch.autograd.grad(score, leaf, allow_unused=True)
    return 0.0 if gradient is None else float((gradient != 0).any(1).float().mean())


def _in_place(probe: Probe, draft: Anatomy) -> Anatomy:
    """Return ``draft`` with cells whose tokens were seen to lie where the image was changed; raises otherwise.

    Where every token answers to every change alike, nothing is seen, and they count as lying row by row.
    """

    def reader(cells: Cells) -> Callable[[Tensor], Tensor]:
        def activations(images: Tensor) -> Tensor:
            with tapped(probe.model.get_submodule(draft.layer), skip_tail=True) as tap:
                probe.adapter.logits(probe.model, images)
            assert tap.value is not None
            return cells.take(tap.value, probe.size)

        return activations

    cells = draft.cells
    if lies_in_place(reader(cells), probe.image) is not False:
        return draft
    turned = replace(cells, leading=0, trailing=cells.leading)
    if cells.leading and lies_in_place(reader(turned), probe.image):
        return replace(draft, cells=turned)
    order = find_order(reader(cells), probe.image)
    if order is not None:
        ordered = replace(cells, order=order)
        if lies_in_place(reader(ordered), probe.image):
            return replace(draft, cells=ordered)
    raise StructureNotFound(
        f"the tokens of layer {draft.layer!r} do not lie on a grid of {cells.grid[0]} x {cells.grid[1]} cells; pass "
        f"grid=(height, width), or layer= with another layer"
    )


def _can_stop_early(probe: Probe, found: Found) -> bool:
    calls = [call for call in probe.recording.calls if call.path == found.layer]
    return bool(calls) and not calls[-1].was_changed


def _kind(steps: tuple[nn.Module | str, ...], head: Head, activations: Tensor) -> HeadKind:
    """Classify the chain by its form and prove linearity on noise of both signs."""
    modules = [step for step in steps if isinstance(step, nn.Module) and next(step.parameters(), None) is not None]
    form: HeadKind = "mlp"
    if len(modules) == 1:
        only = modules[0]
        if isinstance(only, nn.Linear):
            form = "pooled-linear"
        elif isinstance(only, nn.Conv2d) and only.kernel_size == (1, 1) and only.groups == 1:
            form = "pooled-conv"
    elif len(modules) == 2 and "Norm" in type(modules[0]).__name__ and isinstance(modules[1], nn.Linear):
        return "norm-linear"
    if form == "mlp":
        return form
    head.kind = form
    noise = torch.randn(activations.shape, generator=torch.Generator().manual_seed(1)).to(activations)
    rows = head.rows()
    if rows.weight.shape[1] != activations.shape[1]:
        return "mlp"
    return form if _close(head(noise), head.classify(head.reduce(noise))) else "mlp"


def gives_logits(head: nn.Module, output: Tensor, cells: Cells, probe: Probe) -> bool:
    """Whether ``head`` makes the model's logits of ``output`` read as ``cells``."""
    try:
        with evaluating(head):
            logits = head(cells.take(output, probe.size))
    except (RuntimeError, ValueError, TypeError, StructureNotFound):
        return False
    return isinstance(logits, Tensor) and logits.shape == probe.logits.shape and _close(logits, probe.logits)


def _close(ours: Tensor, theirs: Tensor) -> bool:
    scale = theirs.abs().max().clamp(min=1e-6)
    tolerance = TOLERANCE if ours.dtype in (torch.float32, torch.float64) else 0.1
    return bool(((ours - theirs).abs().max() / scale) < tolerance)
