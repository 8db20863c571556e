"""Records to figures: a value with interval per cell and metric, and paired differences to the baselines."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dualcam.evaluation.cells import Cell, Grid, MapKind
from dualcam.evaluation.fidelity import Fidelity, describe_fidelity
from dualcam.evaluation.input_maps import TRIVIAL
from dualcam.evaluation.levels import CUTS
from dualcam.evaluation.records import select
from dualcam.metrics.bootstrap import Interval, known_intervals, mean_interval, pooled_interval
from dualcam.metrics.fidelity import FidelityMetric, get
from dualcam.metrics.localization import V2_DELTAS
from dualcam.metrics.mask_iou import best_mask_cut, mask_ious
from dualcam.metrics.packed_hits import count_packed, hits_at
from dualcam.metrics.pixel_ap import average_precision

BOX_METRICS = ("MaxBoxAccV2", "MaxBoxAcc", "GT-known Loc", "Top-1 Loc", "Top-5 Loc", "best IoU", "pointing")
MASK_METRICS = ("PxAP", "mask IoU")
POOLED_RESAMPLES = 500
"""Resamples of PxAP, each of which adds up the pixels of a whole set."""


@dataclass(frozen=True)
class Figure:
    """A cell's value under one metric, in percent, with its differences to baselines (None for itself)."""

    value: Interval
    over_plain: Interval | None
    over_softmax: Interval | None


@dataclass(frozen=True)
class Row:
    """A computed cell: its figures by metric, the thresholds chosen, and the kinds that are the same by law."""

    cell: Cell
    same: tuple[MapKind, ...]
    figures: dict[str, Figure]
    thresholds: dict[str, float]


@dataclass(frozen=True)
class Summary:
    """Everything the tables show, all in percent.

    ``metrics`` are those of localization and then those of ``fidelity``, of which ``lower`` are the better the lower
    they are. ``center`` are the centre box's figures, ``trivial`` those of maps made without a look at the photo,
    ``top1`` and ``top5`` the classifier's; ``about_fidelity`` says how fidelity was measured.
    """

    rows: list[Row]
    metrics: tuple[str, ...]
    center: dict[str, Interval]
    top1: Interval
    top5: Interval
    choosing: int
    reported: int
    broken: int
    baseline: str = field(default="")
    fidelity: tuple[str, ...] = ()
    lower: frozenset[str] = frozenset()
    trivial: dict[str, dict[str, Interval]] = field(default_factory=dict)
    about_fidelity: str = ""

    @property
    def localization(self) -> tuple[str, ...]:
        """The metrics of localization."""
        return tuple(metric for metric in self.metrics if metric not in self.fidelity)


@dataclass(frozen=True)
class Scores:
    """Values [N] of the reported photos in percent, by metric; ``pixels`` are the counts that PxAP pools.

    A photo that a metric can not judge, as mask IoU one without foreground, is NaN.
    """

    photos: dict[str, NDArray[np.float64]]
    thresholds: dict[str, float]
    pixels: NDArray[np.uint16] | None = None


def summarize(
    grid: Grid,
    records: NDArray[Any],
    choosing: NDArray[np.int64],
    reported: NDArray[np.int64],
    fidelity: Fidelity | None = None,
) -> Summary:
    """Choose thresholds on ``choosing``, report on ``reported``; photos without a record are counted as broken.

    ``fidelity`` is what the records' values of that field are.
    """
    chosen, shown = select(choosing, records), select(reported, records)
    assert records.dtype.names is not None
    masks = "pixels" in records.dtype.names
    boxes = bool((records["center"][shown].max(initial=0)) > 0)
    columns = find_columns(records, shown, fidelity)
    metrics = (BOX_METRICS if boxes else ()) + (MASK_METRICS if masks else ()) + tuple(columns)
    cells = [Cell(kind, how) for kind in grid.computed for how in grid.normalizations]
    scores = {cell: score_cell(records, grid.position(cell), chosen, shown, boxes, masks, columns) for cell in cells}
    figures = _figures(grid, cells, scores, metrics)
    rows = [
        Row(
            cell,
            tuple(kind for kind in grid.kinds if grid.same[kind] == cell.kind and kind != cell.kind),
            figures[cell],
            scores[cell].thresholds,
        )
        for cell in cells
    ]
    rank = records["rank"][shown][records["rank"][shown] >= 0]
    return Summary(
        rows=rows,
        metrics=metrics,
        center=center_figures(records, chosen, shown) if boxes else {},
        top1=mean_interval(100.0 * (rank < 1)),
        top5=mean_interval(100.0 * (rank < 5)),
        choosing=len(chosen),
        reported=len(shown),
        broken=len(np.union1d(choosing, reported)) - len(np.union1d(chosen, shown)),
        baseline=str(cells[0]),
        fidelity=tuple(columns),
        lower=frozenset(title for title, column in columns.items() if column.metric.better == "lower"),
        trivial=trivial_figures(records, shown, columns),
        about_fidelity=describe_fidelity(fidelity) if fidelity else "",
    )


@dataclass(frozen=True)
class Column:
    """A fidelity metric's place in the records."""

    metric: FidelityMetric
    place: int

    def percent(self, values: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return values of the metric's unit in percent."""
        return np.asarray(values * (1.0 if self.metric.unit == "percent" else 100.0), dtype=np.float64)


def find_columns(records: NDArray[Any], shown: NDArray[np.int64], fidelity: Fidelity | None) -> dict[str, Column]:
    """Return by title the fidelity metrics that some map of the ``shown`` photos has a value of."""
    if fidelity is None:
        return {}
    by = "" if fidelity.scored_by == "softmax" else f" ({fidelity.scored_by})"
    return {
        f"{get(name).title}{by}": Column(get(name), place)
        for place, name in enumerate(fidelity.metrics)
        if not np.isnan(records["fidelity"][shown, place]).all()
    }


def trivial_figures(
    records: NDArray[Any], shown: NDArray[np.int64], columns: dict[str, Column]
) -> dict[str, dict[str, Interval]]:
    """Return the figures, by map of `TRIVIAL` and title, of maps made without a look at the photo."""
    found: dict[str, dict[str, Interval]] = {}
    for title, column in columns.items():
        for number, name in enumerate(TRIVIAL):
            values = column.percent(records["trivial"][shown, column.place, number])
            if not np.isnan(values).all():
                found.setdefault(name, {})[title] = known_intervals(values[:, None])[0]
    return found


def _figures(
    grid: Grid, cells: list[Cell], scores: dict[Cell, Scores], metrics: tuple[str, ...]
) -> dict[Cell, dict[str, Figure]]:
    """Return each cell's figures: itself, less the plain cell, less the same cell of the softmax branch."""
    plain, found = cells[0], {cell: dict[str, Figure]() for cell in cells}
    rivals = {cell: grid.same.get(cell.kind._replace(branch="softmax")) for cell in cells}
    softmax = {cell: None if kind is None else Cell(kind, cell.normalization) for cell, kind in rivals.items()}
    for metric in metrics:
        asked = [(cell, other) for cell in cells for other in (None, plain, softmax[cell])]
        asked = [(cell, other) for cell, other in asked if other != cell]
        intervals = dict(zip(asked, _intervals(asked, scores, metric), strict=True))
        for cell in cells:
            found[cell][metric] = Figure(
                intervals[cell, None],
                intervals.get((cell, plain)),
                intervals.get((cell, softmax[cell])) if softmax[cell] is not None else None,
            )
    return found


def _intervals(asked: list[tuple[Cell, Cell | None]], scores: dict[Cell, Scores], metric: str) -> list[Interval]:
    """Return the intervals of cells, or of their differences to others, all from the same draws of photos."""
    if metric != "PxAP":
        values = [scores[cell].photos[metric] - (scores[other].photos[metric] if other else 0) for cell, other in asked]
        return known_intervals(np.stack(values, 1))
    found = []
    for cell, other in asked:
        pixels, baseline = scores[cell].pixels, scores[other].pixels if other else None
        assert pixels is not None
        found.append(pooled_interval(pixels, average_precision, baseline=baseline, resamples=POOLED_RESAMPLES))
    return found


def score_cell(
    records: NDArray[Any],
    at: tuple[int, int],
    chosen: NDArray[np.int64],
    shown: NDArray[np.int64],
    boxes: bool,
    masks: bool,
    columns: dict[str, Column] | None = None,
) -> Scores:
    """Return the ``shown`` photos' scores of the cell ``at`` (kind, normalization); ``chosen`` give thresholds."""
    photos: dict[str, NDArray[np.float64]] = {}
    thresholds: dict[str, float] = {}
    if boxes:
        cuts = count_packed(records["any"][chosen, *at], CUTS).argmax(1)
        for delta, cut in zip(V2_DELTAS, cuts.tolist(), strict=True):
            thresholds[f"MaxBoxAccV2 at {delta:g}"] = cut / (CUTS - 1)
        photos["MaxBoxAccV2"] = 100 * hits_at(records["any"][shown, *at], cuts).mean(1)
        cuts = count_packed(records["largest"][chosen, *at], CUTS).argmax(1)
        thresholds["MaxBoxAcc"] = float(cuts[0]) / (CUTS - 1)
        photos["MaxBoxAcc"] = 100 * hits_at(records["largest"][shown, *at], cuts).mean(1)
        known = records["fixed"][shown, *at] >= 0.5
        rank = records["rank"][shown]
        photos["GT-known Loc"] = 100.0 * known
        photos["Top-1 Loc"] = 100.0 * (known & (rank < 1))
        photos["Top-5 Loc"] = 100.0 * (known & (rank < 5))
        photos["best IoU"] = 100.0 * records["best"][shown, *at].astype(np.float64)
        photos["pointing"] = 100.0 * records["peak"][shown, *at].astype(np.float64)
    for title, column in (columns or {}).items():
        photos[title] = column.percent(records["fidelity"][shown, column.place, *at])
    if masks:
        cut = best_mask_cut(records["pixels"][chosen, *at])
        thresholds["mask IoU"] = cut / 1000
        photos["mask IoU"] = 100 * mask_ious(records["pixels"][shown, *at])[:, cut]
    return Scores(photos, thresholds, records["pixels"][shown, *at] if masks else None)


def center_figures(records: NDArray[Any], chosen: NDArray[np.int64], shown: NDArray[np.int64]) -> dict[str, Interval]:
    """Return the figures of a centre box of the area share that is best on ``chosen``, metric by metric."""
    there, here = records["center"][chosen], records["center"][shown]
    best = [int((there >= delta).mean(0).argmax()) for delta in V2_DELTAS]
    half = int((there >= 0.5).mean(0).argmax())
    rank = records["rank"][shown]
    known = here[:, half] >= 0.5
    return {
        "MaxBoxAccV2": mean_interval(
            100 * np.mean([here[:, share] >= delta for share, delta in zip(best, V2_DELTAS, strict=True)], 0)
        ),
        "MaxBoxAcc": mean_interval(100.0 * known),
        "GT-known Loc": mean_interval(100.0 * known),
        "Top-1 Loc": mean_interval(100.0 * (known & (rank < 1))),
        "Top-5 Loc": mean_interval(100.0 * (known & (rank < 5))),
        "best IoU": mean_interval(100.0 * here.max(1).astype(np.float64)),
    }
