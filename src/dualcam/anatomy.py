"""Where a classifier keeps its last spatial activations and its head: found by a probe forward, then proven."""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from dualcam import families
from dualcam.adapter import Adapter
from dualcam.capture import Recording, recorded, tapped
from dualcam.cells import Cells, cells_of, find_order, fits, lies_in_place
from dualcam.errors import StructureNotFound
from dualcam.guards import evaluating
from dualcam.heads import GLUE, Head, probe_score
from dualcam.tail import Tail
from dualcam.types import HeadKind, Layout, Tapped

TOLERANCE = 1e-4
MOST_CELLS_HAVE_GRADIENT = 0.8


@dataclass(frozen=True)
class Anatomy:
    """The parts of a classifier.

    ``layer`` is the module path whose output, brought to a grid by ``cells`` and through ``post`` (a functional
    activation the model applies to it, or None), is F. ``head`` maps F to logits and shares its modules with the
    classifier; where it is of kind "tail" it maps the inputs of the modules ``readers``, the last layers, instead.
    ``nonnegative`` says whether F >= 0, so that a positive weight means positive evidence. ``can_stop_early`` says
    whether F is complete when the layer returns: an in-place activation after it (DenseNet's) is lost otherwise.
    """

    layer: str
    cells: Cells
    post: str | None
    head: Head
    channels: int
    nonnegative: bool
    can_stop_early: bool = False
    readers: tuple[str, ...] = ()

    @property
    def grid(self) -> tuple[int, int]:
        """Cells (h, w) of an input of the size that the model was wrapped for."""
        return self.cells.grid

    @property
    def layout(self) -> Layout:
        """The axes of the tapped layer's output."""
        return self.cells.layout

    def to_activations(self, output: Tensor, size: tuple[int, int]) -> Tensor:
        """Return F [B, D, h, w] of the tapped layer's output for an input of ``size`` (H, W)."""
        activations = self.cells.take(output, size)
        return GLUE[self.post](activations) if self.post else activations


@dataclass(frozen=True)
class Probe:
    """A recorded forward on noise, and what was asked for: what the family finders read."""

    model: nn.Module
    adapter: Adapter
    image: Tensor
    recording: Recording
    logits: Tensor
    layout: Layout | None = None
    grid: tuple[int, int] | None = None

    @property
    def classes(self) -> int:
        """Number of classes C."""
        return self.logits.shape[1]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the input."""
        return self.image.shape[-2], self.image.shape[-1]

    def cells_of(self, output: Tensor) -> Cells | None:
        """Return where cells lie in ``output``, or None; grids of feature maps seen in the forward help with tokens."""
        maps = [call.output.shape[2:] for call in reversed(self.recording.calls) if call.output.dim() == 4]
        known = [(shape[0], shape[1]) for shape in dict.fromkeys(maps) if fits(shape[0], shape[1], self.size)]
        return cells_of(output.shape, self.size, layout=self.layout, grid=self.grid, known=known)


@dataclass(frozen=True)
class Found:
    """What a family finder proposes.

    The tapped layer's path, its output, where its cells lie, and the chain of steps to the logits: from F, or, with
    ``readers`` (the last layers' paths), from those layers' inputs ``features``.
    """

    layer: str
    output: Tensor
    cells: Cells
    post: str | None
    steps: tuple[nn.Module | str, ...]
    readers: tuple[str, ...] = ()
    features: Tensor | None = None


def probe_input(model: nn.Module, size: tuple[int, int]) -> Tensor:
    """Return two seeded noise images in the model's own dtype and device."""
    parameter = next(model.parameters(), torch.empty(0))
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
    check_layer(model, layer)
    with torch.inference_mode(mode=False), torch.no_grad(), evaluating(model):
        probe = _probed(model, probe_input(model, size), adapter or Adapter(), layout, grid)
        if head is not None:
            return _proven(probe, _given(probe, layer, head), nonnegative)
        return _searched(probe, layer, nonnegative)


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
    model: nn.Module, image: Tensor, adapter: Adapter, layout: Layout | None, grid: tuple[int, int] | None
) -> Probe:
    with recorded(model) as recording:
        try:
            logits = adapter.logits(model, image)
        except (RuntimeError, ValueError, AssertionError, TypeError) as error:
            raise StructureNotFound(
                f"the model does not take images of shape {tuple(image.shape)} ({error}); "
                f"pass preprocessing=Preprocessing(size=(height, width), ...) with the size it was made for"
            ) from error
    return Probe(model, adapter, image, recording, logits, layout, grid)


def _searched(probe: Probe, layer: str | None, nonnegative: bool | None) -> Anatomy:
    """Return the first finder's proposal that is proven; the first refusal tells what is wrong where none is."""
    refusal: StructureNotFound | None = None
    for module in finders():
        found: Found | None = module.find(probe, layer)
        if found is None:
            continue
        try:
            return _proven(probe, found, nonnegative)
        except StructureNotFound as error:
            refusal = refusal or error
    raise refusal or StructureNotFound(_not_found_message(probe, layer))


def _given(probe: Probe, layer: str | None, head: nn.Module) -> Found:
    if layer is None:
        raise StructureNotFound("head= was given without layer=; name the module whose output the head reads")
    output = next((call.output for call in reversed(probe.recording.calls) if call.path == layer), None)
    cells = None if output is None else probe.cells_of(output)
    if output is not None and output.dim() == 4 and (cells is None or not _reads(head, output, cells, probe)):
        shape = output.shape  # a shape can be read in two ways; the head's logits are the proof
        nhwc = probe.layout == "NHWC"
        cells = Cells("NHWC" if nhwc else "NCHW", (shape[1], shape[2]) if nhwc else (shape[2], shape[3]), probe.size)
    if output is None or cells is None:
        came = "nothing" if output is None else str(tuple(output.shape))
        raise StructureNotFound(f"layer={layer!r} gave {came}; expected spatial activations of shape [B, D, h, w]")
    return Found(layer, output, cells, None, (head,))


def _reads(head: nn.Module, output: Tensor, cells: Cells, probe: Probe) -> bool:
    """Whether ``head`` makes the model's logits of ``output`` read as ``cells``."""
    try:
        with evaluating(head):
            logits = head(cells.take(output, probe.size))
    except (RuntimeError, ValueError, TypeError, StructureNotFound):
        return False
    return isinstance(logits, Tensor) and logits.shape == probe.logits.shape and _close(logits, probe.logits)


def _proven(probe: Probe, found: Found, nonnegative: bool | None) -> Anatomy:
    is_tail = bool(found.readers)
    head = Head(found.steps, "tail" if is_tail else "mlp", probe.classes)
    draft = Anatomy(found.layer, found.cells, found.post, head, 0, nonnegative=False, readers=found.readers)
    if found.cells.layout == "tokens":
        draft = _in_place(probe, draft)
    activations = draft.to_activations(found.output, probe.size)
    inputs = found.features if is_tail else activations
    assert inputs is not None
    with evaluating(head):
        again = head(inputs)
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


def _close(ours: Tensor, theirs: Tensor) -> bool:
    scale = theirs.abs().max().clamp(min=1e-6)
    tolerance = TOLERANCE if ours.dtype in (torch.float32, torch.float64) else 0.1
    return bool(((ours - theirs).abs().max() / scale) < tolerance)


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
