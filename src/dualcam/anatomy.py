"""Where a classifier keeps its last spatial activations and its head: found by a probe forward, then proven."""

import importlib
import pkgutil
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from dualcam import families
from dualcam.capture import Recording, first_tensor, recorded, tapped
from dualcam.errors import StructureNotFound
from dualcam.guards import evaluating
from dualcam.heads import GLUE, Head
from dualcam.types import HeadKind, Layout

TOLERANCE = 1e-4


@dataclass(frozen=True)
class Anatomy:
    """The parts of a classifier.

    ``layer`` is the module path whose output, brought to NCHW and through ``post`` (a functional activation the
    model applies to it, or None), is F. ``head`` maps F to logits and shares its modules with the classifier.
    ``nonnegative`` says whether F >= 0, so that a positive weight means positive evidence. ``can_stop_early`` says
    whether F is complete when the layer returns: an in-place activation after it (DenseNet's) is lost otherwise.
    """

    layer: str
    layout: Layout
    post: str | None
    head: Head
    channels: int
    grid: tuple[int, int]
    nonnegative: bool
    can_stop_early: bool = False

    def to_activations(self, output: Tensor) -> Tensor:
        """Return F [B, D, h, w] of the tapped layer's output."""
        if self.layout == "NHWC":
            output = output.permute(0, 3, 1, 2)
        return GLUE[self.post](output) if self.post else output


@dataclass(frozen=True)
class Probe:
    """A recorded forward on noise: what the family finders read."""

    recording: Recording
    logits: Tensor

    @property
    def classes(self) -> int:
        """Number of classes C."""
        return self.logits.shape[1]


@dataclass(frozen=True)
class Found:
    """What a family finder proposes: the tapped layer's path, its output, and the chain of steps to the logits."""

    layer: str
    output: Tensor
    layout: Layout
    post: str | None
    steps: tuple[nn.Module | str, ...]


def scores_of(output: Any) -> Tensor:
    """Return the logits in a model's output: a tensor, ``.logits``, ``["logits"]``, or the first tensor inside."""
    if isinstance(output, Tensor):
        return output
    logits = getattr(output, "logits", None)
    if logits is None and isinstance(output, dict):
        logits = output.get("logits")
    found = logits if isinstance(logits, Tensor) else first_tensor(output)
    if found is None:
        raise StructureNotFound(
            f"the model returned {type(output).__name__}; expected logits [B, C] or an output with .logits"
        )
    return found


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
    nonnegative: bool | None = None,
) -> Anatomy:
    """Find the anatomy of ``model`` with a forward on noise of ``size`` (h, w), or take the parts given by hand.

    Raises `StructureNotFound`, naming the candidates, where nothing is found or what was found does not reproduce
    the model's logits.
    """
    check_layer(model, layer)
    with torch.inference_mode(mode=False), torch.no_grad(), evaluating(model):
        image = probe_input(model, size)
        if head is not None:
            found, logits = _given(model, image, layer, head, layout)
        else:
            found, logits = _searched(model, image, layer)
        if layout is not None:
            found = replace(found, layout=layout)
        anatomy = _proven(found, logits, nonnegative)
        return replace(anatomy, can_stop_early=_can_stop_early(model, image, found))


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


def _searched(model: nn.Module, image: Tensor, layer: str | None) -> tuple[Found, Tensor]:
    with recorded(model) as recording:
        try:
            logits = scores_of(model(image))
        except (RuntimeError, ValueError, AssertionError, TypeError) as error:
            raise StructureNotFound(
                f"the model does not take images of shape {tuple(image.shape)} ({error}); "
                f"pass preprocessing=Preprocessing(size=(height, width), ...) with the size it was made for"
            ) from error
    if logits.dim() != 2:
        raise StructureNotFound(f"expected logits of shape [B, C], the model returned {tuple(logits.shape)}")
    probe = Probe(recording, logits)
    for module in finders():
        found: Found | None = module.find(probe, layer)
        if found is not None:
            return found, logits
    raise StructureNotFound(_not_found_message(probe, layer))


def _given(
    model: nn.Module, image: Tensor, layer: str | None, head: nn.Module, layout: Layout | None
) -> tuple[Found, Tensor]:
    if layer is None:
        raise StructureNotFound("head= was given without layer=; name the module whose output the head reads")
    with tapped(model.get_submodule(layer)) as tap:
        logits = scores_of(model(image))
    if tap.value is None or tap.value.dim() != 4:
        came = "nothing" if tap.value is None else str(tuple(tap.value.shape))
        raise StructureNotFound(f"layer={layer!r} gave {came}; expected spatial activations of shape [B, D, h, w]")
    return Found(layer, tap.value, layout or "NCHW", None, (head,)), logits


def _proven(found: Found, logits: Tensor, nonnegative: bool | None) -> Anatomy:
    classes = logits.shape[1]
    head = Head(found.steps, "mlp", classes)
    draft = Anatomy(found.layer, found.layout, found.post, head, 0, (0, 0), nonnegative=False)
    activations = draft.to_activations(found.output)
    with evaluating(head):
        again = head(activations)
        if again.shape != logits.shape or not _close(again, logits):
            raise StructureNotFound(
                f"the part after layer {found.layer!r} ({head.describe_steps()}) does not reproduce the model's "
                f"logits; pass layer= and head= by hand"
            )
        head.kind = _kind(found.steps, head, activations)
    return replace(
        draft,
        channels=activations.shape[1],
        grid=(activations.shape[2], activations.shape[3]),
        nonnegative=bool((activations >= 0).all()) if nonnegative is None else nonnegative,
    )


def _can_stop_early(model: nn.Module, image: Tensor, found: Found) -> bool:
    with tapped(model.get_submodule(found.layer), skip_tail=True) as tap:
        model(image)
    return tap.value is not None and torch.equal(tap.value, found.output)


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


def _not_found_message(probe: Probe, layer: str | None) -> str:
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
