"""Batches of photos to sheets: which maps a panel shows, all from one run of the model."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from dualcam.data.prepared import Prepared
from dualcam.description import default_method, usual_methods
from dualcam.explainer import Settings, check_classes, check_options, choose_classes, explain_forward, run_model
from dualcam.explanation import ClassEvidence
from dualcam.model import DualBranch
from dualcam.results import ClassRecord
from dualcam.sheet import MapTile, Row, Sheet
from dualcam.targets import Classes
from dualcam.types import Box

UNITS = {"logit": "logits", "centered": "logits", "finer": "logits"}
SIGNS = {"positive": "evidence for", "signed": "all evidence", "negative": "evidence against"}
WORDS = {"xgrad": "XGrad", "hirescam": "HiResCAM", "legrad": "LeGrad", "is": "IS", "ss": "SS"}
MOST_ROWS = 10
"""Classes that a panel shows; all are in the results."""


@dataclass(frozen=True)
class Plan:
    """Which classes and maps the sheets hold: the softmax branch's usual map, the one asked for, those to compare."""

    classes: Classes
    main: Settings
    usual: Settings
    compared: tuple[tuple[Settings, ...], ...]
    threshold: float


def make_plan(
    model: DualBranch, main: Settings, classes: Classes, *, threshold: float = 0.2, compare: bool = False
) -> Plan:
    """Return a plan; raises `ClassNotFound` where ``model`` has no such classes.

    ``compare`` adds, for the first class, every usual method that applies, by branch.
    """
    check_classes(model, classes)
    base = check_options(model, branch="softmax", method=default_method(model.softmax_head), sign="signed")
    base = replace(base, normalize=main.normalize)
    compared = tuple(
        tuple(replace(main, branch=branch, method=method, layers=()) for method in usual_methods(model.head(branch)))
        for branch in ("softmax", "sigmoid")
    )
    return Plan(classes, main, base, compared if compare else (), threshold)


def make_sheets(model: DualBranch, batch: Sequence[Prepared], plan: Plan) -> list[Sheet | None]:
    """Explain a batch by one run of the model; None stands for a photo whose scores or maps are not finite."""
    forward = run_model(model, batch)
    index = choose_classes(model, forward, plan.classes)
    main = explain_forward(model, forward, index, plan.main)
    usual = explain_forward(model, forward, index[:, :MOST_ROWS], plan.usual)
    compared = [
        [explain_forward(model, forward, index[:, :1], settings) for settings in settings_of_branch]
        for settings_of_branch in plan.compared
    ]
    finite = [each.is_finite for each in main]
    return [
        _sheet(
            plan,
            batch[position],
            list(main[position]),
            list(usual[position]),
            [[explanations[position][0] for explanations in row] for row in compared] if len(main[position]) else [],
        )
        if finite[position]
        else None
        for position in range(len(batch))
    ]


def _sheet(
    plan: Plan,
    item: Prepared,
    main: list[ClassEvidence],
    usual: list[ClassEvidence],
    compared: list[list[ClassEvidence]],
) -> Sheet:
    boxes = [evidence.boxes(plan.threshold) for evidence in main]
    rows: list[Row] = []
    for evidence, softmax, found in zip(main, usual, boxes, strict=False):
        tiles = (
            _heat(softmax, plan.usual, label(plan.usual)),
            _heat(evidence, plan.main, f"{label(plan.main)}, {SIGNS[plan.main.sign]}", found[0] if found else None),
            MapTile(f"{label(plan.main)}: red for, blue against", "signed", _array(evidence.signed), signed=True),
        )
        numbers = f"softmax logit {evidence.softmax_logit:.2f}   sigmoid logit {evidence.sigmoid_logit:.2f}"
        rows.append(Row(f"{evidence.name}   {100 * evidence.probability:.1f} %", numbers, tiles))
    below = tuple(
        Row(
            f"{settings[0].branch.capitalize()} branch, method by method",
            f"{main[0].name}, {SIGNS[plan.main.sign]}",
            tuple(_heat(each, how, method_label(how)) for each, how in zip(row, settings, strict=True)),
        )
        for settings, row in zip(plan.compared, compared, strict=False)  # no rows for a photo without classes
    )
    if not rows:
        rows = [Row("no label over the threshold", "", ())]
    records = tuple(_record(evidence, found) for evidence, found in zip(main, boxes, strict=True))
    return Sheet(item.source or "", item.picture(), item.placement, records, tuple(rows), below, unit_of(plan.main))


def _record(evidence: ClassEvidence, boxes: list[Box]) -> ClassRecord:
    return {
        "index": evidence.index,
        "name": evidence.name,
        "probability": evidence.probability,
        "softmax_logit": evidence.softmax_logit,
        "sigmoid_logit": evidence.sigmoid_logit,
        "boxes": [[box.x0, box.y0, box.x1, box.y1, round(box.score, 6)] for box in boxes],
    }


def _heat(evidence: ClassEvidence, settings: Settings, title: str, box: Box | None = None) -> MapTile:
    values = _array(evidence.raw)
    negative = evidence.sign == "negative"
    return MapTile(
        title=title,
        scale=scale_of(settings),
        values=-values if negative else values,
        normalization=settings.normalize or "max",
        empty="no negative evidence" if negative else "no positive evidence",
        box=box,
        unit=unit_of(settings),
    )


def scale_of(settings: Settings) -> str:
    """Return the name of the color scale that maps of ``settings`` can share from photo to photo."""
    beside = [settings.score] if settings.score != "logit" else []
    return " ".join([settings.branch, settings.method.name, settings.sign, *beside, *settings.layers])


def unit_of(settings: Settings) -> str:
    """Return the unit of the maps: the score's where weights are gradients or rows, else none that has a name."""
    if settings.layers or settings.method.total is None:
        return ""
    return UNITS.get(settings.score, settings.score)


def label(settings: Settings) -> str:
    """Return branch and method as a title says them: "Sigmoid Grad-CAM"."""
    layers = f" of {len(settings.layers)} layers" if settings.layers else ""
    return f"{settings.branch.capitalize()} {method_label(settings)}{layers}"


def method_label(settings: Settings) -> str:
    """Return the method as a title says it: "Grad-CAM"."""
    words = "-".join(
        WORDS.get(word, word.upper() if word.startswith("cam") else word.capitalize())
        for word in settings.method.name.split("-")
    )
    return words.replace("Layer-CAM", "LayerCAM").replace("Smooth-", "Smooth ")


def _array(values: torch.Tensor) -> NDArray[np.float32]:
    return values.float().cpu().numpy().astype(np.float32)
