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
from dualcam.diagnose.maps import Drawn, draw_maps
from dualcam.diagnose.observe import Observed, observe
from dualcam.diagnose.recovery import Recovery, measure_recovery
from dualcam.diagnose.settings import DiagnoseSettings
from dualcam.diagnose.shift import ShiftEffect, SigmoidShift, draw_directions, shift_effects, sigmoid_shifts
from dualcam.errors import MethodNotApplicable, TrainingDiverged
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
    check_applicable(method, model.softmax_head)
    if model.softmax_head.reads_features:
        raise MethodNotApplicable(
            f"diagnose shifts and retrains heads that read the tapped layer, and what lies between layer "
            f"{model.anatomy.layer!r} and the last one stays in this model; fit a pooled linear head "
            f"(fit_head='linear', --fit-head linear) and diagnose that"
        )
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
        reason = (
            f"no linear layer makes this head's logits ({model.softmax_head.describe_steps()}): its rows leave softmax "
            "no free vector, so there is nothing to shift, to collapse or to train again"
        )
    inputs_of = None if layer is None else layer.inputs(seen.activations.to(model.device))
    shifts = torch.zeros(0, 0, dtype=torch.float64)
    directions = shifts
    if layer is not None and inputs_of is not None:
        directions = draw_directions(inputs_of, settings.draws, settings.seed)
        shifts = torch.cat([size * layer.row_norm * directions for size in settings.sizes])
    steps = progress.add_task("measuring", total=4 + RETRAININGS)
    drawn = draw_maps(model, seen.activations, index, method, layer, shifts)
    progress.advance(steps)
    centered = drawn.by_score["centered"].signed
    effects, collapse, recovery, moved = None, None, None, None
    recovery_reason = reason
    if layer is not None and inputs_of is not None:
        effects = tuple(shift_effects(layer, inputs_of, directions, settings.sizes, drawn, judge))
        collapse = measure_collapse(
            layer, inputs_of, seen.activations, index, method, drawn.plain, nonnegative=model.anatomy.nonnegative
        )
    progress.advance(steps)
    if layer is not None and seen.sigmoid is not None:
        own = seen.sigmoid.inputs(seen.activations.to(model.device))
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
        true = draw_maps(model, seen.activations, labels, method, layer, shifts[chosen : chosen + 1])
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
