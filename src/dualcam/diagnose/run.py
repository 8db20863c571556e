"""The whole diagnosis of one model on some photos."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from rich.progress import Progress
from torch import Tensor

from dualcam import methods
from dualcam.data.photos import MAX_MEGAPIXELS
from dualcam.description import default_method
from dualcam.diagnose.agreement import Judge, energy_share
from dualcam.diagnose.baselines import Localization, compare_scores, localize, named_maps
from dualcam.diagnose.check import check_diagnosable, check_rows
from dualcam.diagnose.collapse import measure_collapse
from dualcam.diagnose.findings import Diagnosis, Findings
from dualcam.diagnose.inputs import Inputs, TrueBoxes
from dualcam.diagnose.last_layer import why_no_layer
from dualcam.diagnose.maps import draw_maps
from dualcam.diagnose.observe import Observed, observe
from dualcam.diagnose.recovery import Recovery, measure_recovery
from dualcam.diagnose.settings import DiagnoseSettings
from dualcam.diagnose.shift import SigmoidShift, draw_directions, shift_effects, sigmoid_shifts
from dualcam.errors import TrainingDiverged
from dualcam.methods import Method
from dualcam.metrics.bootstrap import mean_interval
from dualcam.model import DualBranch

STEPS = 4 + 9
"""Maps, distortions, comparison, localization; two solvers from four starts, and cross-entropy."""


@dataclass(frozen=True)
class Case:
    """What the measurements share.

    ``index`` [N] are the predicted classes, ``labels`` [N] the true ones as far as they are known; ``directions``
    [draws, E] and ``shifts`` [sizes * draws, E], sizes outside, are empty where no last layer was found.
    """

    seen: Observed
    method: Method
    settings: DiagnoseSettings
    judge: Judge
    index: Tensor
    labels: Tensor | None
    directions: Tensor
    shifts: Tensor

    @property
    def middle(self) -> int:
        """The place among ``shifts`` of the first of the middle size."""
        return len(self.settings.sizes) // 2 * self.settings.draws


def diagnose(
    model: DualBranch,
    inputs: Inputs,
    settings: DiagnoseSettings | None = None,
    progress: Progress | None = None,
    *,
    max_megapixels: float = MAX_MEGAPIXELS,
    workers: int = 2,
) -> Findings:
    """Look at the photos, shift, collapse, train again and compare; the model is left as it was.

    ``inputs`` are from `open_inputs`. Raises `DataError` if no photo can be used, `MethodNotApplicable`, `ChoiceError`.
    """
    settings, progress = settings or DiagnoseSettings(), progress or Progress(disable=True)
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
    check_rows(seen.softmax)
    case = _open_case(seen, inputs, method, settings)
    task = progress.add_task("measuring", total=STEPS)
    found = _measure(case, inputs.boxes, lambda: progress.advance(task))
    progress.update(task, completed=STEPS)
    return found


def _open_case(seen: Observed, inputs: Inputs, method: Method, settings: DiagnoseSettings) -> Case:
    directions = shifts = torch.zeros(0, 0, dtype=torch.float64)
    if seen.softmax is not None:
        directions = draw_directions(seen.softmax_inputs, settings.draws, settings.seed)
        shifts = torch.cat([size * seen.softmax.row_norm * directions for size in settings.sizes])
    return Case(
        seen=seen,
        method=method,
        settings=settings,
        judge=Judge(seen.placements, settings.threshold),
        index=seen.logits.argmax(1),
        labels=None if inputs.labels is None else torch.from_numpy(inputs.labels[seen.positions]),
        directions=directions,
        shifts=shifts,
    )


def _measure(case: Case, boxes: TrueBoxes | None, advance: Callable[[], None]) -> Findings:
    seen, index, layer = case.seen, case.index, case.seen.softmax
    model = seen.forwards.model
    drawn = draw_maps(seen.forwards, index, case.method, layer, case.shifts)
    centered = drawn.by_score["centered"].signed
    advance()
    effects = collapse = None
    if layer is not None:
        own = seen.softmax_inputs
        effects = tuple(shift_effects(layer, own, case.directions, case.settings.sizes, drawn, case.judge))
        collapse = measure_collapse(layer, own, seen.forwards, index, case.method, drawn.plain)
    advance()
    reason = why_no_layer(model.softmax_head) if layer is None else None
    recovery, recovery_reason = _train_again(case, advance) if reason is None else (None, reason)
    maps = named_maps(drawn, None if layer is None else case.middle)
    comparisons = tuple(compare_scores(maps, case.judge))
    advance()
    diagnosis = Diagnosis(
        method=case.method.name,
        photos=len(seen.photos),
        row_length=None if layer is None else layer.weight.shape[1],
        classes=model.classes,
        mean_row=None if layer is None else layer.mean_row_share,
        arbitrary=mean_interval(energy_share(drawn.plain.signed - centered, centered)),
        accuracy=None if case.labels is None else mean_interval((index == case.labels).double()),
        reason=reason,
        shifts=effects,
        sigmoid_shifts=_shift_sigmoid(case),
        recovery=recovery,
        recovery_reason=recovery_reason,
        collapse=collapse,
        comparisons=comparisons,
        localization=_localize(case, boxes),
    )
    return Findings(diagnosis, case.settings, seen, drawn, case.directions, index.numpy())


def _shift_sigmoid(case: Case) -> tuple[SigmoidShift, ...] | None:
    """Shift the sigmoid branch's rows as the softmax branch's; None where no last layer was found."""
    seen, settings = case.seen, case.settings
    if seen.softmax is None or seen.sigmoid is None:
        return None
    directions = draw_directions(seen.inputs, settings.draws, settings.seed)
    return tuple(sigmoid_shifts(seen.sigmoid, seen.inputs, directions, settings.sizes))


def _train_again(case: Case, advance: Callable[[], None]) -> tuple[Recovery | None, str | None]:
    """Return what training undoes, or why it was not measured; true labels where they are known."""
    seen, settings = case.seen, case.settings
    if seen.softmax is None or seen.sigmoid is None:
        return None, None
    labels = (case.index if case.labels is None else case.labels).repeat_interleave(settings.views)
    try:
        found = measure_recovery(
            seen.sigmoid, seen.softmax, seen.views, seen.softmax_views, labels, seed=settings.seed, advance=advance
        )
    except TrainingDiverged as error:
        return None, f"the retraining diverged: {error}"
    return found, None if found else "all photos are of one class: a row needs photos for it and against it"


def _localize(case: Case, boxes: TrueBoxes | None) -> tuple[Localization, ...] | None:
    """Return how well maps of the true class find the true boxes; None without labels and boxes."""
    if case.labels is None or boxes is None:
        return None
    seen = case.seen
    shift = case.shifts[case.middle : case.middle + 1]
    drawn = draw_maps(seen.forwards, case.labels, case.method, seen.softmax, shift)
    places = zip(seen.positions.tolist(), seen.placements, strict=True)
    truth = [boxes.on_grid(position, placement.source) for position, placement in places]
    return tuple(localize(named_maps(drawn, None if seen.softmax is None else 0), case.judge, truth))
