"""The records of a study's runs to figures: each combination's values by seed and photo, resampled and compared."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dualcam.ablation.contrasts import Combination, Contrast, make_contrasts
from dualcam.ablation.effects import Estimate, Sampled, difference, estimate, sample_means, sample_pooled
from dualcam.ablation.heads import HEADS
from dualcam.ablation.rows import RowFacts, look_at_rows
from dualcam.ablation.study import Run, Study
from dualcam.evaluation.cells import Cell
from dualcam.evaluation.localization import LocalizationMetric, Recorded, applicable
from dualcam.evaluation.records import DONE, select
from dualcam.evaluation.summary import (
    Column,
    center_figures,
    find_columns,
    lower_is_better,
    score_cell,
    trivial_figures,
)
from dualcam.metrics.bootstrap import Interval


@dataclass(frozen=True)
class Effect:
    """What a change brings, by metric."""

    contrast: Contrast
    figures: dict[str, Estimate]


@dataclass(frozen=True)
class Result:
    """All that a study says, in percent.

    Of ``metrics``, those in ``lower`` are the better the lower they are. ``equal`` names the methods that one of them
    stands for; ``top1`` is the classifier's, of no photos where no class is known; ``trivial`` are the figures of the
    centre box and of maps made without a look at the photo.
    """

    metrics: tuple[str, ...]
    lower: frozenset[str]
    values: dict[Combination, dict[str, Estimate]]
    effects: list[Effect]
    equal: dict[str, tuple[str, ...]]
    trivial: dict[str, dict[str, Interval]]
    rows: dict[str, RowFacts]
    top1: Estimate
    seeds: int
    photos: int
    choosing: tuple[int, ...]
    broken: int
    told: str


def gather(study: Study, records: Sequence[NDArray[Any]]) -> Result:
    """Return the figures of a study from the ``records`` of its runs, in their order.

    Photos that lack a record in any run are left out of all, so that every difference is paired.
    """
    pairs = list(zip(study.runs, records, strict=True))
    whole = np.all([rows["status"][run.photos.reported] == DONE for run, rows in pairs], axis=0)
    names = records[0].dtype.names or ()
    boxes = any((rows["center"][run.photos.reported[whole]] > 0).any() for run, rows in pairs)
    columns: dict[str, Column] = {}
    for run, rows in pairs:
        columns |= find_columns(rows, run.photos.reported[whole], study.settings.fidelity)
    localization = applicable(boxes=boxes, masks="pixels" in names)
    metrics = (*localization, *columns)
    places = _places(study, pairs, whole)
    contrasts = make_contrasts(list(places))
    first, rows = pairs[0]
    shown = first.photos.reported[whole]
    groups = first.photos.numbers[shown]
    sampled = _sample(places, localization, columns, groups)
    trivial = trivial_figures(rows, shown, columns, groups)
    if boxes:
        trivial["centre box"] = center_figures(rows, select(first.photos.choosing, rows), shown, localization, groups)
    ranks = [
        next(rows["rank"][run.photos.reported[whole]] for run, rows in pairs if seed in run.seeds)
        for seed in range(study.settings.seeds)
    ]
    right = np.where(np.stack(ranks) < 0, np.nan, 100.0 * (np.stack(ranks) < 1))
    return Result(
        metrics=metrics,
        lower=lower_is_better(localization, columns),
        values={item: {metric: estimate(sampled[metric][item]) for metric in metrics} for item in places},
        effects=[
            Effect(contrast, {metric: estimate(difference(sampled[metric], contrast.pairs)) for metric in metrics})
            for contrast in contrasts
        ],
        equal=_equal(first),
        trivial=trivial,
        rows=look_at_rows(study.runs),
        top1=estimate(sample_means([right], groups=groups)[0]),
        seeds=study.settings.seeds,
        photos=len(shown),
        choosing=tuple(
            next(len(run.photos.choosing) for run in study.runs if seed in run.seeds)
            for seed in range(study.settings.seeds)
        ),
        broken=int((~whole).sum()),
        told=_told(study),
    )


def combinations_of(run: Run) -> Iterator[tuple[Combination, Cell]]:
    """Yield what a run compares, named by head; of methods that are equal by law the first."""
    heads = {HEADS[name].branch: name for name in run.heads}
    for kind in run.grid.kinds:
        if run.grid.same[kind].method != kind.method:
            continue
        for how in run.grid.normalizations:
            yield Combination(heads[kind.branch], kind.method, kind.sign, how), Cell(kind, how)


def _places(
    study: Study, pairs: Sequence[tuple[Run, NDArray[Any]]], whole: NDArray[np.bool_]
) -> dict[Combination, list[Recorded]]:
    """Return where each combination's records are, seed by seed, heads in the order of the study."""
    found: dict[Combination, dict[int, Recorded]] = {}
    for run, rows in pairs:
        chosen, shown = select(run.photos.choosing, rows), run.photos.reported[whole]
        for combination, cell in combinations_of(run):
            place = Recorded(rows, run.grid.position(cell), chosen, shown)
            found.setdefault(combination, {}).update(dict.fromkeys(run.seeds, place))
    ordered = sorted(found, key=lambda combination: study.heads.index(combination.head))
    return {item: [found[item][seed] for seed in range(study.settings.seeds)] for item in ordered}


def _sample(
    places: dict[Combination, list[Recorded]],
    localization: dict[str, LocalizationMetric],
    columns: dict[str, Column],
    groups: NDArray[np.int64],
) -> dict[str, dict[Combination, Sampled]]:
    """Return every figure under the same draws of photos, by metric and combination."""
    sampled: dict[str, dict[Combination, Sampled]] = {metric: {} for metric in (*localization, *columns)}
    pooled = {title: metric.pool for title, metric in localization.items() if metric.pool is not None}
    values: dict[str, list[NDArray[np.float64]]] = {metric: [] for metric in sampled if metric not in pooled}
    for item, by_seed in places.items():
        scores = [score_cell(place, localization, columns) for place in by_seed]
        for metric, column in values.items():
            column.append(np.stack([score[metric].values for score in scores]))
        for metric, pool in pooled.items():
            sampled[metric][item] = sample_pooled([score[metric].values for score in scores], pool, groups=groups)
    for metric, column in values.items():
        sampled[metric] = dict(zip(places, sample_means(column, groups=groups), strict=True))
    return sampled


def _told(study: Study) -> str:
    """Return how photos were chosen: by each seed anew, where the seeds' words differ."""
    told = list(dict.fromkeys(run.photos.told for run in study.runs))
    return told[0] if len(told) == 1 else f"{told[0]}, anew for each seed"


def _equal(run: Run) -> dict[str, tuple[str, ...]]:
    """Return the methods that each one stands for."""
    found: dict[str, tuple[str, ...]] = {}
    for kind in run.grid.kinds:
        own = run.grid.same[kind].method
        found[own] = tuple(dict.fromkeys((*found.get(own, ()), kind.method)))
    return found
