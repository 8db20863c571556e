"""Fidelity of one photo's maps: which modified photos are asked about, and what metrics make of the answers."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dualcam.evaluation.asking import Answer, Interview, digest
from dualcam.evaluation.cells import MapKind
from dualcam.evaluation.distinct import Distinct
from dualcam.evaluation.fidelity import Fidelity, reads_scores_only
from dualcam.evaluation.shown import Shown
from dualcam.metrics import fidelity
from dualcam.metrics.fidelity import Measured, Perturbation

Place: TypeAlias = tuple[int, ...]
"""Of a map among a photo's: (kind, normalization), or (number,) of a trivial one."""


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
class Group:
    """Places of maps that have one view."""

    view: Tensor
    places: list[Place]


class PhotoFidelity:
    """Asks all questions about one photo's maps when it is made; gives the values when they are answered.

    ``maps`` [kinds, H, W] are of ``kinds``, ``trivial`` [H, W] each what nothing drew; ``truth`` [H, W] may be None;
    ``by_heads`` are, for metrics that change heads, the plain photo's raw maps [R, kinds, h, w] by these.
    """

    def __init__(
        self,
        work: Fidelity,
        names: Sequence[str],
        interview: Interview,
        kinds: Sequence[MapKind],
        maps: Shown,
        trivial: Sequence[NDArray[np.float32]] = (),
        truth: NDArray[np.uint8] | None = None,
        by_heads: Mapping[str, NDArray[np.float32]] | None = None,
    ) -> None:
        self.work, self.interview, self.kinds, self.maps = work, interview, tuple(kinds), maps
        self.trivial, self.truth, self.by_heads = tuple(trivial), truth, by_heads or {}
        self.metrics = {name: fidelity.get(name) for name in names}
        self.heats = np.stack([maps.heats(column) for column in range(len(maps.normalizations))], 1)
        self._answers: dict[tuple[Perturbation, Place], tuple[Answer, ...]] = {}
        self._ask()

    @property
    def done(self) -> bool:
        """Whether all answers are there."""
        return self.interview.done

    def values(self) -> Values:
        """Return the photo's figures, once `done`."""
        names, (kinds, columns) = self.work.metrics, self.heats.shape[:2]
        found = np.full((len(names), kinds, columns), np.nan, dtype=np.float32)
        trivial = np.full((len(names), len(self.trivial)), np.nan, dtype=np.float32)
        for kind in range(kinds):
            drawn = Drawn(self.kinds[kind], self.maps.part(kind), {n: by[:, kind] for n, by in self.by_heads.items()})
            for column in range(columns):
                for name, value in self._scores((kind, column), self.heats[kind, column], drawn):
                    found[names.index(name), kind, column] = value
        for number, heat in enumerate(self.trivial):
            for name, value in self._scores((number,), heat):
                trivial[names.index(name), number] = value
        return Values(self.interview.label, self.interview.probability, found, trivial)

    def _ask(self) -> None:
        settings, metrics = self.work.settings, self.metrics.values()
        asked = dict.fromkeys(each for metric in metrics for each in metric.perturbations(settings))
        explained = {each for metric in metrics for each in metric.explains(settings)}
        plain = {each for metric in metrics if reads_scores_only(metric, settings) for each in metric.asks(settings)}
        grouped = cache(self._grouped)
        for perturbation in asked:
            make = perturbation.make(self.interview.photo, settings)
            for number, group in enumerate(grouped(perturbation.view)):
                places = [place for place in group.places if len(place) == 2 or perturbation in plain]
                if not places:
                    continue
                kinds: dict[MapKind, None] = {}
                if perturbation in explained:
                    kinds = dict.fromkeys(self.kinds[place[0]] for place in places if len(place) == 2)
                recipes: list[tuple[Hashable, Tensor]] = [((perturbation, number), group.view)]
                if perturbation.parts is not None:
                    parts = perturbation.parts(group.view, settings)
                    recipes = [((perturbation.make, digest(part)), part) for part in parts]
                answers = tuple(self.interview.ask(key, partial(make, part), tuple(kinds)) for key, part in recipes)
                self._answers.update(((perturbation, place), answers) for place in places)
        self.interview.finish()

    def _grouped(self, view_of: Callable[[Tensor], Tensor]) -> list[Group]:
        """Return the distinct views of all maps, the trivial ones among them."""
        groups = Distinct[Group]()
        everywhere: list[tuple[Place, NDArray[np.float32]]] = [
            *((place, self.heats[place]) for place in np.ndindex(*self.heats.shape[:2])),
            *(((number,), heat) for number, heat in enumerate(self.trivial)),
        ]
        for place, heat in everywhere:
            view = view_of(torch.from_numpy(heat))
            groups.find(view, partial(Group, view, [])).places.append(place)
        return groups.values

    def _scores(
        self, place: Place, heat: NDArray[np.float32], drawn: "Drawn | None" = None
    ) -> Iterator[tuple[str, float]]:
        """Yield the figures of one map, ``drawn`` by a kind or by nothing, by the metrics that can judge it."""
        settings = self.work.settings
        metrics = {
            name: metric
            for name, metric in self.metrics.items()
            if (drawn or reads_scores_only(metric, settings)) and not (metric.needs_truth and self.truth is None)
        }
        asked = dict.fromkeys(each for metric in metrics.values() for each in metric.asks(settings))
        explained = dict.fromkeys(each for metric in metrics.values() for each in metric.explains(settings))
        known = Measured(
            heat,
            self.interview.probability,
            {each: np.array([answer.probability for answer in self._answers[each, place]]) for each in asked},
            {each: drawn.again(self._answers[each, place]).heats(place[1]) for each in explained if drawn},
            truth=self.truth,
        )
        for name, metric in metrics.items():
            read = drawn.by_heads(known, name, place[1]) if drawn and metric.heads else known
            yield name, metric.score(read, settings)


class Drawn:
    """What one kind of map draws: on the plain photo, on modified ones, and by changed heads; on pixels once each."""

    def __init__(self, kind: MapKind, plain: Shown, by_heads: Mapping[str, NDArray[np.float32]]) -> None:
        self.kind, self.plain = kind, plain
        self._by_heads = {name: plain.redrawn(raw) for name, raw in by_heads.items()}
        self._again: dict[tuple[Answer, ...], Shown] = {}

    def again(self, answers: tuple[Answer, ...]) -> Shown:
        """Return the maps [S, H, W] of modified photos."""
        if answers not in self._again:
            self._again[answers] = self.plain.redrawn(np.stack([answer.maps[self.kind] for answer in answers]))
        return self._again[answers]

    def by_heads(self, known: Measured, name: str, column: int) -> Measured:
        """Return ``known`` with what a metric that changes heads reads beside it."""
        shown = self._by_heads[name]
        if fidelity.get(name).by_rank:
            return replace(known, ranks=np.concatenate((self.plain.ranks(column), shown.ranks(column))))
        return replace(known, redrawn=shown.heats(column))
