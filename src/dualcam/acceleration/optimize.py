"""`optimize`: a faster copy of a model, each step kept only if the logits stay what they are."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from dualcam.acceleration.fold import fold_batch_norms
from dualcam.acceleration.packing import pack_weights
from dualcam.acceleration.proof import Answers, Difference, answers, compare, probe
from dualcam.errors import ChoiceError, ModelError
from dualcam.guards import evaluating
from dualcam.model import DualBranch

Act: TypeAlias = Callable[[DualBranch, Tensor], str]
"""Changes a copy in place, with images to look at, and tells what it did."""


class NothingToDo(Exception):
    """Raised by a step that has no use for a model; says why."""


@dataclass(frozen=True)
class Step:
    """One step: whether it was kept, what it did or why it was not, and how far the copy is from the model then."""

    name: str
    kept: bool
    told: str
    difference: Difference | None = None
    spoiled: bool = False


@dataclass(frozen=True)
class Optimization:
    """What `optimize` did, and the largest difference [logits] that it measured between the model and its copy."""

    steps: tuple[Step, ...]
    tolerance: float
    difference: float

    def __str__(self) -> str:
        lines = [f"{step.name}: {step.told}" for step in self.steps]
        lines.append(f"logits differ by {self.difference:.1e} at most on noise; {self.tolerance:.0e} are allowed")
        return "\n".join(lines)


def optimize(model: DualBranch | nn.Module, *, tolerance: float = 1e-4) -> DualBranch:
    """Return a copy of ``model`` that explains in less time; the model itself is left as it was.

    Batch norms are folded into the convolutions before them, weights are laid out channels last, and on a CPU
    convolutions and linear layers keep their weights in the form that oneDNN computes with. A step is kept if both
    branches' logits on seeded noise stay within ``tolerance`` of the model's (or within that share of the largest one,
    where that is below 1), and the activations within that share of theirs. The copy's ``optimization`` says what was
    done and measured; layer, heads, laws, methods and options are the model's.

    The copy is for looking, not for training: it is in eval mode, its parameters are frozen, and it holds
    these weights twice. Half precision rounds too much for most steps to be kept under the default tolerance.
    A module is wrapped first. Raises `ModelError` where the model can not be copied, `ChoiceError`.
    """
    from dualcam.wrapper import wrap

    if not tolerance > 0:
        raise ChoiceError(f"tolerance must be above 0, in logits; got {tolerance}")
    model = model if isinstance(model, DualBranch) else wrap(model)
    no_autocast = torch.autocast(model.device.type, enabled=False)
    with torch.inference_mode(mode=False), torch.no_grad(), no_autocast:
        images = probe(model)
        expected = answers(model, images)
        fast = _copy(model)
        steps: list[Step] = []
        for name, act in STEPS.items():
            step = _try(name, act, fast, images, expected, tolerance)
            steps.append(step)
            if step.spoiled:  # a step that is taken back takes the copy with it; the kept ones go over a new one
                fast = _copy(model)
                for kept in steps:
                    if kept.kept:
                        STEPS[kept.name](fast, images)
    measured = [step.difference.logits for step in steps if step.kept and step.difference is not None]
    fast.optimization = Optimization(tuple(steps), tolerance, measured[-1] if measured else 0.0)
    return fast


def _try(name: str, act: Act, model: DualBranch, images: Tensor, expected: Answers, tolerance: float) -> Step:
    """Let ``act`` change ``model``, and judge what it says now; the step ``spoiled`` it where it is not kept."""
    try:
        told = act(model, images)
        difference = compare(answers(model, images), expected)
    except NothingToDo as reason:
        return Step(name, kept=False, told=f"not done: {reason}")
    except (RuntimeError, TypeError, ValueError, AttributeError) as error:
        told = f"not kept: the model does not run with it ({_first_line(error)})"
        return Step(name, kept=False, told=told, spoiled=True)
    if difference.within(tolerance):
        return Step(name, kept=True, told=told, difference=difference)
    moved = f"logits moved by {difference.logits:.1e}, activations by {difference.activations:.1e} of their largest"
    return Step(name, kept=False, told=f"not kept: {moved}", difference=difference, spoiled=True)


def _fold(model: DualBranch, images: Tensor) -> str:
    spared = set(model.softmax_head.modules())
    with evaluating(model):
        done = fold_batch_norms(model.classifier, images, layer=model.anatomy.layer, spared=spared)
    if not done.folded:
        raise NothingToDo(f"no convolution is followed by one of the model's {done.norms} batch norms alone")
    return f"{done.folded} of {done.norms} batch norms are part of the convolutions before them"


def _channels_last(model: DualBranch, _images: Tensor) -> str:
    count = sum(isinstance(module, nn.Conv2d) for module in model.classifier.modules())
    if not count:
        raise NothingToDo("the model has no convolutions")
    model.classifier.to(memory_format=torch.channels_last)
    return f"the weights of {count} convolutions, and with them the activations"


def _pack(model: DualBranch, images: Tensor) -> str:
    if model.device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        raise NothingToDo("only oneDNN on a CPU computes with weights of this form")
    with evaluating(model):
        spared = set(model.softmax_head.modules())
        counts = pack_weights(model.classifier, images, spared, forward=model.adapter.logits)
    names = {"convolutions": counts.convolutions, "linear layers": counts.linear, "attentions": counts.attention}
    told = " and ".join(f"{count} {name}" for name, count in names.items() if count)
    if not told:
        raise NothingToDo("the model has no plain convolutions, nor linear layers that would gain by it")
    return f"{told} keep their weights as oneDNN computes with them"


STEPS: dict[str, Act] = {
    "batch norms": _fold,
    "channels last": _channels_last,
    "packed weights": _pack,
}


def _copy(model: DualBranch) -> DualBranch:
    try:
        return deepcopy(model).eval().requires_grad_(False)
    except (RuntimeError, TypeError) as error:
        raise ModelError(
            f"the model can not be copied ({_first_line(error)}), and dualcam optimizes copies only; take out what can "
            f"not be, such as weights that are computed from others, or explain with the model as it is"
        ) from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
