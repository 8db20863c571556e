"""Records to figures: a value with interval per cell and metric, and paired differences to the baselines."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dualcam.evaluation.cells import Cell, Grid, MapKind
from dualcam.evaluation.fidelity import Fidelity, describe_fidelity
from dualcam.evaluation.input_maps import TRIVIAL
from dualcam.evaluation.localization import Centered, LocalizationMetric, Recorded, Scored, applicable
from dualcam.evaluation.records import select
from dualcam.metrics.bootstrap import Interval, known_intervals, pooled_interval
from dualcam.metrics.fidelity import FidelityMetric, get

POOLED_RESAMPLES = 500
"""Resamples of figures that are pooled, as PxAP, each of which adds up the pixels of a whole set."""


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

    ``reported`` records are of so many ``photos``: fewer where each label of a photo has one.
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
    photos: int
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


def summarize(
    grid: Grid,
    records: NDArray[Any],
    choosing: NDArray[np.int64],
    reported: NDArray[np.int64],
    fidelity: Fidelity | None = None,
    numbers: NDArray[np.int64] | None = None,
) -> Summary:
    """Choose thresholds on ``choosing``, report on ``reported``; photos without a record are counted as broken.

    ``fidelity`` is what the records' values of that field are; ``numbers`` says which photo each record is of
    (`Photos.numbers`): a photo that has several, one a label, is resampled with all of them.
    """
    chosen, shown = select(choosing, records), select(reported, records)
    groups = shown if numbers is None else numbers[shown]
    assert records.dtype.names is not None
    boxes = bool((records["center"][shown].max(initial=0)) > 0)
    localization = applicable(boxes=boxes, masks="pixels" in records.dtype.names)
    columns = find_columns(records, shown, fidelity)
    cells = [Cell(kind, how) for kind in grid.computed for how in grid.normalizations]
    places = {cell: Recorded(records, grid.position(cell), chosen, shown) for cell in cells}
    scores = {cell: score_cell(place, localization, columns) for cell, place in places.items()}
    figures = _figures(grid, cells, scores, localization, groups)
    rows = [
        Row(
            cell,
            tuple(kind for kind in grid.kinds if grid.same[kind] == cell.kind and kind != cell.kind),
            figures[cell],
            {name: value for scored in scores[cell].values() for name, value in scored.thresholds.items()},
        )
        for cell in cells
    ]
    rank = records["rank"][shown]
    right = [np.where(rank < 0, np.nan, 100.0 * (rank < first)) for first in (1, 5)]
    top1, top5 = known_intervals(np.stack(right, 1), groups=groups)
    return Summary(
        rows=rows,
        metrics=(*localization, *columns),
        center=center_figures(records, chosen, shown, localization, groups) if boxes else {},
        top1=top1,
        top5=top5,
        choosing=len(chosen),
        reported=len(shown),
        broken=len(np.union1d(choosing, reported)) - len(np.union1d(chosen, shown)),
        baseline=str(cells[0]),
        fidelity=tuple(columns),
        lower=lower_is_better(localization, columns),
        trivial=trivial_figures(records, shown, columns, groups),
        photos=len(np.unique(groups)),
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


def lower_is_better(localization: dict[str, LocalizationMetric], columns: dict[str, Column]) -> frozenset[str]:
    """Return the titles of metrics that are the better the lower they are."""
    better = {title: metric.better for title, metric in localization.items()}
    better |= {title: column.metric.better for title, column in columns.items()}
    return frozenset(title for title, end in better.items() if end == "lower")


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
    records: NDArray[Any], shown: NDArray[np.int64], columns: dict[str, Column], groups: NDArray[np.int64]
) -> dict[str, dict[str, Interval]]:
    """Return the figures, by map of `TRIVIAL` and title, of maps made without a look at the photo."""
    found: dict[str, dict[str, Interval]] = {}
    for title, column in columns.items():
        for number, name in enumerate(TRIVIAL):
            values = column.percent(records["trivial"][shown, column.place, number])
            if not np.isnan(values).all():
                found.setdefault(name, {})[title] = known_intervals(values[:, None], groups=groups)[0]
    return found


def _figures(
    grid: Grid,
    cells: list[Cell],
    scores: dict[Cell, dict[str, Scored]],
    localization: dict[str, LocalizationMetric],
    groups: NDArray[np.int64],
) -> dict[Cell, dict[str, Figure]]:
    """Return each cell's figures: itself, less the plain cell, less the same cell of the softmax branch."""
    plain, found = cells[0], {cell: dict[str, Figure]() for cell in cells}
    rivals = {cell: grid.same.get(cell.kind._replace(branch="softmax")) for cell in cells}
    softmax = {cell: None if kind is None else Cell(kind, cell.normalization) for cell, kind in rivals.items()}
    asked = [(cell, other) for cell in cells for other in (None, plain, softmax[cell])]
    asked = [(cell, other) for cell, other in asked if other != cell]
    for metric in scores[plain]:
        values = {cell: scores[cell][metric].values for cell in cells}
        pool = localization[metric].pool if metric in localization else None
        intervals = dict(zip(asked, _intervals(asked, values, pool, groups), strict=True))
        for cell in cells:
            found[cell][metric] = Figure(
                intervals[cell, None],
                intervals.get((cell, plain)),
                intervals.get((cell, softmax[cell])) if softmax[cell] is not None else None,
            )
    return found


def _intervals(
    asked: list[tuple[Cell, Cell | None]],
    values: dict[Cell, NDArray[Any]],
    pool: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None,
    groups: NDArray[np.int64],
) -> list[Interval]:
    """Return the intervals of cells, or of their differences to others, all from the same draws of photos."""
    if pool is None:
        columns = [values[cell] - (values[other] if other else 0) for cell, other in asked]
        return known_intervals(np.stack(columns, 1), groups=groups)
    pairs = [(values[cell], values[other] if other else None) for cell, other in asked]
    return [
        pooled_interval(ours, pool, baseline=theirs, groups=groups, resamples=POOLED_RESAMPLES)
        for ours, theirs in pairs
    ]


def score_cell(
    cell: Recorded, localization: dict[str, LocalizationMetric], columns: dict[str, Column]
) -> dict[str, Scored]:
    """Return by title what metrics make of the records of a cell: localization, then the ``columns`` of fidelity."""
    scored = {title: metric.score(cell) for title, metric in localization.items()}
    for title, column in columns.items():
        values = cell.records["fidelity"][cell.showing, column.place, *cell.at]
        scored[title] = Scored(column.percent(values))
    return scored


def center_figures(
    records: NDArray[Any],
    chosen: NDArray[np.int64],
    shown: NDArray[np.int64],
    localization: dict[str, LocalizationMetric],
    groups: NDArray[np.int64],
) -> dict[str, Interval]:
    """Return the figures of a centre box of the area share that is best on ``chosen``, metric by metric."""
    boxes = Centered(records["center"][chosen], records["center"][shown], records["rank"][shown])
    return {
        title: known_intervals(metric.center(boxes)[:, None], groups=groups)[0]
        for title, metric in localization.items()
        if metric.center is not None
    }
