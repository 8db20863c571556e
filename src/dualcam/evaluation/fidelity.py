"""Which fidelity metrics are measured, on which photos."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from dualcam.errors import ChoiceError
from dualcam.evaluation.asking import ScoredBy
from dualcam.evaluation.photos import Photos
from dualcam.evaluation.views import Explained
from dualcam.metrics import fidelity
from dualcam.metrics.fidelity import FidelityMetric
from dualcam.metrics.fidelity_settings import FidelitySettings

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
