"""The whole diagnosis of one model on some photos."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress
from torch import Tensor

from dualcam import methods
from dualcam.data.photos import MAX_MEGAPIXELS
from dualcam.description import check_applicable, default_method
from dualcam.diagnose.agreement import Judge, energy_share
from dualcam.diagnose.baselines import Comparison, Localization, compare_scores, localize, named_maps
from dualcam.diagnose.collapse import Collapse, measure_collapse
from dualcam.diagnose.inputs import Inputs
from dualcam.diagnose.last_layer import why_no_layer
from dualcam.diagnose.maps import Drawn, draw_maps
from dualcam.diagnose.observe import Observed, observe
from dualcam.diagnose.recovery import Recovery, measure_recovery
from dualcam.diagnose.settings import DiagnoseSettings
from dualcam.diagnose.shift import ShiftEffect, SigmoidShift, draw_directions, shift_effects, sigmoid_shifts
from dualcam.errors import MethodNotApplicable, TrainingDiverged
from dualcam.methods import Method
from dualcam.metrics.bootstrap import Interval, mean_interval
from dualcam.model import DualBranch

RETRAININGS = 9
"""Two solvers from four starts, and cross-entropy."""


@dataclass(frozen=True)
class Diagnosis:
    """Everything that was measured; None stands for what does not apply, and ``reason`` says why.

    ``arbitrary`` is the share of the energy of the model's maps that its mean row accounts for, mean over photos;
    ``mean_row`` the mean row's norm as a share of a row's. ``accuracy``: how often prediction and label agree.
    """

    method: str
    photos: int
    row_length: int | None
    classes: int
    mean_row: float | None
    arbitrary: Interval
    accuracy: Interval | None
    reason: str | None
    shifts: tuple[ShiftEffect, ...] | None
    sigmoid_shifts: tuple[SigmoidShift, ...] | None
    recovery: Recovery | None
    recovery_reason: str | None
    collapse: Collapse | None
    comparisons: tuple[Comparison, ...]
    localization: tuple[Localization, ...] | None


@dataclass(frozen=True)
class Findings:
    """A diagnosis with what it was made of, for the figure; ``directions`` [draws, E] are the shifts' unit vectors."""

    diagnosis: Diagnosis
    observed: Observed
    drawn: Drawn
    directions: Tensor
    index: NDArray[np.int64]


def diagnose(
    model: DualBranch,
    inputs: Inputs,
    settings: DiagnoseSettings,
    progress: Progress,
    *,
    max_megapixels: float = MAX_MEGAPIXELS,
    workers: int = 2,
) -> Findings:
    """Look at the photos, shift, collapse, train again and compare; the model is left as it was.

    Raises `DataError` if no photo can be used, `MethodNotApplicable`, `ChoiceError`.
    """
    method = methods.get(settings.method or default_method(model.softmax_head))
    check_diagnosable(model, method)
    seen = observe(
        model,
        inputs.paths,
        progress,
        views=settings.views,
        seed=settings.seed,
        max_megapixels=max_megapixels,
        workers=workers,
    )
    index = seen.logits.argmax(1)
    labels = None if inputs.labels is None else torch.from_numpy(inputs.labels[seen.positions])
    judge = Judge(seen.placements, settings.threshold)
    layer, reason = seen.softmax, None
    if layer is None:
        reason = why_no_layer(model.softmax_head)
    shifts = torch.zeros(0, 0, dtype=torch.float64)
    directions = shifts
    if layer is not None:
        directions = draw_directions(seen.softmax_inputs, settings.draws, settings.seed)
        shifts = torch.cat([size * layer.row_norm * directions for size in settings.sizes])
    steps = progress.add_task("measuring", total=4 + RETRAININGS)
    drawn = draw_maps(seen.forwards, index, method, layer, shifts)
    progress.advance(steps)
    centered = drawn.by_score["centered"].signed
    effects, collapse, recovery, moved = None, None, None, None
    recovery_reason = reason
    if layer is not None:
        effects = tuple(shift_effects(layer, seen.softmax_inputs, directions, settings.sizes, drawn, judge))
        collapse = measure_collapse(layer, seen.softmax_inputs, seen.forwards, index, method, drawn.plain)
    progress.advance(steps)
    if layer is not None and seen.sigmoid is not None:
        own = seen.inputs
        moved = tuple(
            sigmoid_shifts(seen.sigmoid, own, draw_directions(own, settings.draws, settings.seed), settings.sizes)
        )
        trained_on = (index if labels is None else labels).repeat_interleave(settings.views)
        try:
            recovery = measure_recovery(
                seen.sigmoid,
                layer,
                seen.views,
                seen.softmax_views,
                trained_on,
                seed=settings.seed,
                advance=lambda: progress.advance(steps),
            )
            recovery_reason = (
                None if recovery else "all photos are of one class: a row needs photos for it and against it"
            )
        except TrainingDiverged as error:
            recovery_reason = f"the retraining diverged: {error}"
    chosen = len(settings.sizes) // 2 * settings.draws
    maps = named_maps(drawn, chosen if layer is not None else None)
    comparisons = tuple(compare_scores(maps, judge))
    progress.advance(steps)
    found = None
    if labels is not None and inputs.boxes is not None:
        true = draw_maps(seen.forwards, labels, method, layer, shifts[chosen : chosen + 1])
        places = zip(seen.positions.tolist(), seen.placements, strict=True)
        boxes = [inputs.boxes.on_grid(position, placement.source) for position, placement in places]
        found = tuple(localize(named_maps(true, 0 if layer is not None else None), judge, boxes))
    progress.update(steps, completed=4 + RETRAININGS)
    result = Diagnosis(
        method=method.name,
        photos=len(seen.photos),
        row_length=None if layer is None else layer.weight.shape[1],
        classes=model.classes,
        mean_row=None if layer is None else layer.mean_row_share,
        arbitrary=mean_interval(energy_share(drawn.plain.signed - centered, centered)),
        accuracy=None if labels is None else mean_interval((index == labels).double()),
        reason=reason,
        shifts=effects,
        sigmoid_shifts=moved,
        recovery=recovery,
        recovery_reason=recovery_reason,
        collapse=collapse,
        comparisons=comparisons,
        localization=found,
    )
    return Findings(result, seen, drawn, directions, index.numpy())


def check_diagnosable(model: DualBranch, method: Method) -> None:
    """Raise `MethodNotApplicable` where no softmax leaves a vector free, or where a shift could not be drawn."""
    if model.outputs == "sigmoid":
        raise MethodNotApplicable(
            "diagnose asks what softmax leaves undecided, and the probabilities of this classifier are sigmoids, one "
            "for each label (outputs='sigmoid'): a vector added to all class rows moves every probability, so there "
            "is no such shift; explain and evaluate take it as it is. If its classes exclude each other, wrap it "
            "with outputs='softmax' (--outputs softmax)"
        )
    if model.classes == 1:
        raise MethodNotApplicable(
            "diagnose asks what softmax leaves undecided, and this classifier has a single logit, whose other class "
            "has none: a vector added to its one row moves its probability, so there is no such shift; explain and "
            "evaluate take it as it is"
        )
    check_applicable(method, model.softmax_head)
    if method.needs or method.gradient_free:
        raise MethodNotApplicable(
            f"diagnose adds a shift to the gradients that maps are made of, and method {method.name!r} "
            f"{'runs the model anew' if method.needs else 'reads none'}; use a gradient method, such as grad-cam"
        )
