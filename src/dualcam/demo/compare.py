"""Softmax and sigmoid branch on two-digit pictures: whether the map of the asked digit finds that digit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from rich.table import Table

from dualcam.data.prepared import prepare_photo
from dualcam.demo.digits import Composite
from dualcam.explainer import check_options, explain_forward, run_model
from dualcam.explanation import Explanation
from dualcam.localize import iou
from dualcam.metrics.bootstrap import Interval, mean_interval
from dualcam.metrics.pointing import peak_in_box
from dualcam.model import DualBranch
from dualcam.types import Branch, Sign

Variant: TypeAlias = tuple[Branch, Sign]
BATCH = 8
THRESHOLD = 0.5
IOU_LEVEL = 0.5
VARIANTS: tuple[Variant, ...] = (
    ("softmax", "signed"),
    ("softmax", "positive"),
    ("sigmoid", "signed"),
    ("sigmoid", "positive"),
)


@dataclass(frozen=True)
class Row:
    """Shares [0, 1] over asked digits, two a picture, intervals over pictures."""

    branch: Branch
    sign: Sign
    own_peak: Interval
    other_peak: Interval
    peak_gain: Interval
    box_accuracy: Interval
    box_gain: Interval


def compare(model: DualBranch, composites: Sequence[Composite], advance: Callable[[int], None]) -> list[Row]:
    """Measure every variant on ``composites``; one forward serves all. Gains are paired with the plain softmax map."""
    found: dict[Variant, list[tuple[float, float, float]]] = {variant: [] for variant in VARIANTS}
    settings = {variant: check_options(model, branch=variant[0], sign=variant[1]) for variant in VARIANTS}
    for start in range(0, len(composites), BATCH):
        batch = composites[start : start + BATCH]
        forward = run_model(model, [prepare_photo(model.preprocessing, composite.image) for composite in batch])
        asked = torch.tensor([composite.digits for composite in batch])
        for variant in VARIANTS:
            explanations = explain_forward(model, forward, asked, settings[variant])
            found[variant] += [measure(*pair) for pair in zip(explanations, batch, strict=True)]
        advance(len(batch))
    plain = np.array(found[VARIANTS[0]])[:, 2]
    rows = []
    for variant in VARIANTS:
        own, other, hits = np.array(found[variant]).T
        intervals = (mean_interval(values) for values in (own, other, own - other, hits, hits - plain))
        rows.append(Row(*variant, *intervals))
    return rows


def measure(evidence: Explanation, composite: Composite) -> tuple[float, float, float]:
    """Return, averaged over the picture's digits: own map's peak inside, other map's peak inside, box accuracy."""
    maps = [item.heatmap() for item in evidence]
    count = len(maps)
    own = [peak_in_box(maps[k], composite.boxes[k]) for k in range(count)]
    other = [peak_in_box(maps[1 - k], composite.boxes[k]) for k in range(count)]
    hits = []
    for item, box in zip(evidence, composite.boxes, strict=True):
        best = item.boxes(THRESHOLD)[:1]
        hits.append(any(iou((one.x0, one.y0, one.x1, one.y1), box) >= IOU_LEVEL for one in best))
    return sum(own) / count, sum(other) / count, sum(hits) / count


HEADER = (
    "map",
    "peaks in own digit's box",
    "other digit's map peaks there",
    "difference",
    f"box IoU >= {IOU_LEVEL}",
    "against plain softmax CAM",
)


def cells(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Return the rows as text: percentages with 95 % intervals."""
    return [
        (
            f"{row.branch}, {row.sign}",
            *(percent(item) for item in (row.own_peak, row.other_peak, row.peak_gain, row.box_accuracy, row.box_gain)),
        )
        for row in rows
    ]


def table(rows: Sequence[Row]) -> Table:
    """Return the comparison for a terminal."""
    count = rows[0].own_peak.n
    result = Table(title=f"{count} pictures of two digits each; percent, 95 % bootstrap intervals over pictures")
    for column in HEADER:
        result.add_column(column)
    for row in cells(rows):
        result.add_row(*row)
    return result


def percent(figure: Interval) -> str:
    """Return an interval of shares as percent."""
    return f"{100 * figure.mean:.1f} [{100 * figure.low:.1f}, {100 * figure.high:.1f}]"
