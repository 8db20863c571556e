"""Fidelity of one photo's maps: which modified photos are asked about, and what metrics make of the answers."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dualcam.errors import ChoiceError
from dualcam.evaluation.asking import Answer, Interview, ScoredBy, digest
from dualcam.evaluation.cells import MapKind
from dualcam.evaluation.input_maps import resize_maps, to_heats
from dualcam.evaluation.photos import Photos
from dualcam.evaluation.views import Explained
from dualcam.metrics import fidelity
from dualcam.metrics.fidelity import FidelityMetric, Measured, Perturbation
from dualcam.metrics.fidelity_settings import FidelitySettings
from dualcam.types import Normalization

Place: TypeAlias = tuple[int, ...]
"""Of a map among a photo's: (kind, normalization), or (number,) of a trivial one."""
SAMPLE = 50
"""Photos on which metrics of many forwards a map are measured, unless told otherwise."""


@dataclass(frozen=True)
class Fidelity:
    """Which metrics, of the evidence for which class, scored by which branch, on how many photos.

    ``sample`` photos are drawn by ``settings.seed`` from the reported ones; None takes all of them, and `SAMPLE` for
    metrics that are not cheap. Build it with `choose_fidelity`.
    """

    metrics: tuple[str, ...]
    settings: FidelitySettings = field(default_factory=FidelitySettings)
    explain: Explained = "predicted"
    scored_by: ScoredBy = "softmax"
    sample: int | None = None

    @property
    def compares_maps(self) -> bool:
        """Whether some metric reads maps of modified photos or heads."""
        return not all(reads_scores_only(fidelity.get(name), self.settings) for name in self.metrics)


def choose_fidelity(
    names: Sequence[str] = (),
    settings: FidelitySettings | None = None,
    *,
    explain: Explained = "predicted",
    scored_by: ScoredBy = "softmax",
    sample: int | None = None,
    truth: bool = True,
) -> Fidelity:
    """Return what to measure; no ``names`` means the cheap metrics, "all" every one. Raises `ChoiceError`.

    Without ``truth`` (boxes or masks) the metrics that need it are left out, and can not be named.
    """
    settings = settings or FidelitySettings()
    if sample is not None and sample < 1:
        raise ChoiceError(f"sample must be at least 1 photo; got {sample}")
    known = dict(sorted(fidelity.available().items(), key=lambda item: not is_cheap(item[1], settings)))
    if names and "all" not in names:
        chosen = [fidelity.get(name).name for name in dict.fromkeys(names)]
        lacking = [name for name in chosen if known[name].needs_truth and not truth]
        if lacking:
            raise ChoiceError(f"{', '.join(lacking)} compare maps with boxes or masks, which the data do not have")
    else:
        chosen = [
            name
            for name, metric in known.items()
            if (names or is_cheap(metric, settings)) and (truth or not metric.needs_truth)
        ]
    return Fidelity(tuple(chosen), settings, explain, scored_by, sample)


def describe_fidelity(work: Fidelity) -> str:
    """Return in words how fidelity is measured."""
    explained = "the softmax branch's first choice" if work.explain == "predicted" else "the true class"
    space = "RGB in [0, 1], before normalization" if work.settings.space == "pixels" else "normalized input"
    return f"fidelity: of {explained}, every map scored by the {work.scored_by} branch; photos are modified in {space}"


def is_cheap(metric: FidelityMetric, settings: FidelitySettings) -> bool:
    """Whether a metric needs no more than one modified photo a map, and no other maps."""
    return reads_scores_only(metric, settings) and metric.cost(settings) <= 1


def reads_scores_only(metric: FidelityMetric, settings: FidelitySettings) -> bool:
    """Whether a metric reads no other maps, so that it can judge one that no method drew."""
    return metric.heads is None and not metric.explains(settings)


def plan_metrics(work: Fidelity, photos: Photos) -> dict[int, tuple[str, ...]]:
    """Return the metrics to be measured on each photo, by position: the reported ones, or a sample of them.

    Which photos are drawn depends on their paths and the seed, not on their order. A photo that stands there for each
    of its labels is judged once, unless it is these that are explained.
    """
    order = sorted(photos.reported.tolist(), key=lambda position: _draw(photos, position, work.settings.seed))
    if work.explain == "predicted":
        first: dict[str, int] = {}
        for position in order:
            part, place = photos.locate(position)
            first.setdefault(str(part.root / part.paths[place]), position)
        order = list(first.values())
    found: dict[int, tuple[str, ...]] = {}
    for rank, position in enumerate(order):
        found[position] = tuple(
            name for name in work.metrics if rank < (work.sample or _usual_sample(name, work.settings, len(order)))
        )
    return {position: names for position, names in found.items() if names}


def _usual_sample(name: str, settings: FidelitySettings, count: int) -> int:
    return count if is_cheap(fidelity.get(name), settings) else SAMPLE


def _draw(photos: Photos, position: int, seed: int) -> bytes:
    part, place = photos.locate(position)
    return hashlib.sha256(f"{seed}\0{part.paths[place]}".encode("utf-8", "surrogateescape")).digest()


@dataclass(frozen=True)
class Values:
    """A photo's figures: [metrics, kinds, normalizations] of its maps, [metrics, trivial] of maps that saw nothing.

    NaN where nothing was measured or there is nothing to measure. ``label`` is the explained class, ``probability``
    what the scoring branch gives it.
    """

    label: int
    probability: float
    maps: NDArray[np.float32]
    trivial: NDArray[np.float32]


@dataclass(frozen=True)
class Maps:
    """A photo's maps on the input's pixels: heats [kinds, normalizations, H, W] in [0, 1]."""

    kinds: tuple[MapKind, ...]
    normalizations: tuple[Normalization, ...]
    percentile: float
    heats: NDArray[np.float32]

    def redrawn(self, raw: NDArray[np.float32], column: int) -> NDArray[np.float32]:
        """Return other raw maps [S, h, w] on the same pixels under one of the normalizations, [S, H, W]."""
        size = (self.heats.shape[-2], self.heats.shape[-1])
        return to_heats(resize_maps(raw, size), self.normalizations[column : column + 1], self.percentile)[:, 0]


class PhotoFidelity:
    """Asks all questions about one photo's maps when it is made; gives the values when they are answered.

    ``trivial`` [H, W] each are maps that nothing drew; ``truth`` [H, W] may be None; ``by_heads`` are, for metrics that
    change heads, the plain photo's raw maps [R, kinds, h, w] by these.
    """

    def __init__(
        self,
        work: Fidelity,
        names: Sequence[str],
        interview: Interview,
        maps: Maps,
        trivial: Sequence[NDArray[np.float32]] = (),
        truth: NDArray[np.uint8] | None = None,
        by_heads: Mapping[str, NDArray[np.float32]] | None = None,
    ) -> None:
        self.work, self.interview, self.maps, self.trivial = work, interview, maps, tuple(trivial)
        self.truth, self.by_heads = truth, by_heads or {}
        self.metrics = {name: fidelity.get(name) for name in names}
        self._answers: dict[tuple[Perturbation, Place], list[Answer]] = {}
        self._ask()

    @property
    def done(self) -> bool:
        """Whether all answers are there."""
        return self.interview.done

    def values(self) -> Values:
        """Return the photo's figures, once `done`."""
        heats, names = self.maps.heats, self.work.metrics
        found = np.full((len(names), *heats.shape[:2]), np.nan, dtype=np.float32)
        trivial = np.full((len(names), len(self.trivial)), np.nan, dtype=np.float32)
        for place in np.ndindex(*heats.shape[:2]):
            for name, value in self._scores(place, heats[place]).items():
                found[names.index(name), *place] = value
        for number, heat in enumerate(self.trivial):
            for name, value in self._scores((number,), heat).items():
                trivial[names.index(name), number] = value
        return Values(self.interview.label, self.interview.probability, found, trivial)

    def _ask(self) -> None:
        settings, metrics = self.work.settings, self.metrics.values()
        asked = dict.fromkeys(each for metric in metrics for each in metric.perturbations(settings))
        explained = {each for metric in metrics for each in metric.explains(settings)}
        plain = {each for metric in metrics if reads_scores_only(metric, settings) for each in metric.asks(settings)}
        views: dict[tuple[Callable[[Tensor], Tensor], Place], tuple[bytes, Tensor]] = {}
        for perturbation in asked:
            groups: dict[bytes, tuple[Tensor, list[Place]]] = {}
            for place, heat in self._places(trivial=perturbation in plain):
                if (perturbation.view, place) not in views:
                    view = perturbation.view(torch.from_numpy(heat))
                    views[perturbation.view, place] = (digest(view), view)
                key, view = views[perturbation.view, place]
                groups.setdefault(key, (view, []))[1].append(place)
            for view, places in groups.values():
                kinds: dict[MapKind, None] = {}
                if perturbation in explained:
                    kinds = dict.fromkeys(self.maps.kinds[place[0]] for place in places if len(place) == 2)
                photos = perturbation.photos(self.interview.photo, view, settings)
                answers = [self.interview.ask(photo, tuple(kinds)) for photo in photos]
                for place in places:
                    self._answers[perturbation, place] = answers

    def _places(self, *, trivial: bool) -> Iterator[tuple[Place, NDArray[np.float32]]]:
        for place in np.ndindex(*self.maps.heats.shape[:2]):
            yield place, self.maps.heats[place]
        if trivial:
            for number, heat in enumerate(self.trivial):
                yield (number,), heat

    def _scores(self, place: Place, heat: NDArray[np.float32]) -> dict[str, float]:
        """Return the metrics' figures of one map; those that can not judge it are left out."""
        settings, found = self.work.settings, dict[str, float]()
        for name, metric in self.metrics.items():
            if len(place) == 1 and not reads_scores_only(metric, settings):
                continue
            if metric.needs_truth and self.truth is None:
                continue
            redrawn = None
            if metric.heads is not None:
                redrawn = self.maps.redrawn(self.by_heads[name][:, place[0]], place[1])
            measured = Measured(
                heat,
                self.interview.probability,
                {each: self._probabilities(each, place) for each in metric.asks(settings)},
                {each: self._maps(each, place) for each in metric.explains(settings)},
                redrawn,
                self.truth,
            )
            found[name] = metric.score(measured, settings)
        return found

    def _probabilities(self, perturbation: Perturbation, place: Place) -> NDArray[np.float64]:
        return np.array([answer.probability for answer in self._answers[perturbation, place]])

    def _maps(self, perturbation: Perturbation, place: Place) -> NDArray[np.float32]:
        kind = self.maps.kinds[place[0]]
        return self.maps.redrawn(
            np.stack([answer.maps[kind] for answer in self._answers[perturbation, place]]), place[1]
        )
