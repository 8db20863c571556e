"""Localization metrics: one file each, found by listing this folder.

A metric names the fields that it reads of the photos' records, and makes one figure a photo of them; the pass over the
photos (`measure`) fills each field once, whichever metrics read it. Tables, files and studies show what stands here.

Conventions: figures are in percent and float64; NaN says that a photo has nothing to measure and is left out of the
mean. Thresholds are chosen on other photos than those reported, and stay as they are when photos are resampled.
"""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from dualcam.evaluation.sight import Sight

Truth = Literal["boxes", "masks"]


@dataclass(frozen=True)
class Field:
    """What a record holds of each map: an array of ``dtype`` and ``shape``, for every normalization.

    ``measure`` returns it, [normalizations, *shape], of one map beside its truth; it is asked only where the photo has
    the ``truth``, elsewhere ``blank`` stands. Metrics share a field by naming the same object; names of others differ.
    """

    name: str
    dtype: type[np.generic]
    measure: "Callable[[Sight], NDArray[Any]]"
    truth: Truth
    shape: tuple[int, ...] = ()
    blank: float = 0


@dataclass(frozen=True)
class Recorded:
    """The records of one cell ``at`` (kind, normalization), of the photos that choose thresholds and of those shown."""

    records: NDArray[Any]
    at: tuple[int, int]
    choosing: NDArray[np.int64]
    showing: NDArray[np.int64]

    def chosen(self, field: Field) -> NDArray[Any]:
        """Return a field [M, *shape] of the photos that choose; no photos where none do."""
        return np.asarray(self.records[field.name][self.choosing, *self.at])

    def shown(self, field: Field) -> NDArray[Any]:
        """Return a field [N, *shape] of the photos that are reported."""
        return np.asarray(self.records[field.name][self.showing, *self.at])

    @property
    def rank(self) -> NDArray[np.int32]:
        """The label's rank [N] among the softmax logits of the photos reported: 0 is Top-1, -1 not known."""
        return np.asarray(self.records["rank"][self.showing])


@dataclass(frozen=True)
class Centered:
    """IoUs of centre boxes, by area share: ``chosen`` [M, S] of photos that choose, ``shown`` [N, S] and their rank."""

    chosen: NDArray[np.float32]
    shown: NDArray[np.float32]
    rank: NDArray[np.int32]

    def best(self, delta: float) -> int:
        """Return the share with which most photos that choose reach IoU ``delta``."""
        return int((self.chosen >= delta).mean(0).argmax())

    def reaches(self, delta: float) -> NDArray[np.bool_]:
        """Whether the box of the `best` share reaches ``delta``, [N]."""
        return np.asarray(self.shown[:, self.best(delta)] >= delta)


@dataclass(frozen=True)
class Scored:
    """Figures [N] of the photos reported, in percent (for `LocalizationMetric.pool`: counts [N, ...]).

    ``thresholds`` are those that were chosen, in [0, 1], under the names by which the files tell them.
    """

    values: NDArray[Any]
    thresholds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class LocalizationMetric:
    """A localization metric: a figure a photo, whose mean over photos is reported.

    ``fields`` are those that ``score`` reads. With ``pool`` the figure is no mean: ``score`` returns counts [N, ...] of
    the photos, and ``pool`` takes sums [R, ...] of these to figures [R]. ``center`` returns the figures [N] of a box in
    the middle of the photo. Tables are in ``order``, those of equal order by title.
    """

    title: str
    fields: tuple[Field, ...]
    score: Callable[[Recorded], Scored]
    paper: str = ""
    pool: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None
    center: Callable[[Centered], NDArray[np.floating]] | None = None
    better: Literal["higher", "lower"] = "higher"
    order: int = 1000

    @property
    def truth(self) -> frozenset[Truth]:
        """What the photos must have for the metric to judge them."""
        return frozenset(each.truth for each in self.fields)


@cache
def available() -> dict[str, LocalizationMetric]:
    """Return all localization metrics by title, in the order of the tables."""
    modules = (importlib.import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__))
    metrics: list[LocalizationMetric] = [module.LOCALIZATION for module in modules]
    return {metric.title: metric for metric in sorted(metrics, key=lambda metric: (metric.order, metric.title))}


def applicable(*, boxes: bool, masks: bool) -> dict[str, LocalizationMetric]:
    """Return by title the metrics that photos with this truth can be judged by."""
    lacking: dict[Truth, bool] = {"boxes": not boxes, "masks": not masks}
    return {title: metric for title, metric in available().items() if not any(lacking[each] for each in metric.truth)}
