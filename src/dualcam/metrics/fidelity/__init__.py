"""Fidelity metrics: one file each, found by listing this folder.

Whether a map shows what the classifier uses is asked of the classifier: photos are modified by the map and scored
again. A metric says which modified photos it asks about, and makes one figure a photo of what they scored. It runs no
model: who does (`dualcam evaluate --fidelity`) scores every map, whichever branch drew it, by the same frozen softmax
branch's probability p_k of k, the softmax prediction. A map scored by the branch that drew it could not be compared.

Conventions: photos are [3, H, W] in the space of the settings; heat is [H, W] in [0, 1], on the photo's pixels; p are
probabilities; values are float64; NaN says that a photo has nothing to measure and is left out of the mean.
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from dualcam.errors import check_choice
from dualcam.metrics.fidelity_settings import FidelitySettings

if TYPE_CHECKING:
    from torch import Tensor

    from dualcam.heads import Head


@dataclass(frozen=True)
class Perturbation:
    """Photos made of one photo and one map.

    ``view`` [H, W] -> tensor: all that the photos depend on of the map: maps with equal views have equal photos, so
    each distinct (perturbation, view) of a photo needs to be scored once. ``photos`` (photo [3, H, W], view, settings)
    -> [S, 3, H, W], new tensors of the photo's type. ``count`` is S. Equal perturbations are the same object, and so
    are equal views: what one of them made of a map serves all perturbations that have it.
    """

    name: str
    view: "Callable[[Tensor], Tensor]"
    photos: "Callable[[Tensor, Tensor, FidelitySettings], Tensor]"
    count: Callable[[FidelitySettings], int]

    def __call__(self, photo: "Tensor", heat: "Tensor", settings: FidelitySettings) -> "Tensor":
        """Return the photos [S, 3, H, W] for a map ``heat`` [H, W]."""
        return self.photos(photo, self.view(heat), settings)


@dataclass(frozen=True)
class Measured:
    """What is known of one map on one photo, as far as the metrics at hand ask for it.

    ``probability`` is p_k(x), ``probabilities`` [S] those of each perturbation's photos. ``maps`` [S, H, W] are the
    maps that the same method, branch, sign and normalization draws of class k on the photos of a perturbation;
    ``redrawn`` [R, H, W] those of the plain photo by the heads of `FidelityMetric.heads`. ``truth`` [H, W] is 1 on the
    object (the union of its boxes, or its mask), 0 beside it, 255 ignored; None where nothing is known.
    """

    heat: NDArray[np.float32]
    probability: float = float("nan")
    probabilities: Mapping[Perturbation, NDArray[np.floating]] = field(default_factory=dict)
    maps: Mapping[Perturbation, NDArray[np.float32]] = field(default_factory=dict)
    redrawn: NDArray[np.float32] | None = None
    truth: NDArray[np.uint8] | None = None


def _asks_nothing(settings: FidelitySettings) -> tuple[Perturbation, ...]:
    return ()


@dataclass(frozen=True)
class FidelityMetric:
    """A fidelity metric: a figure a photo, whose mean over photos is reported.

    ``asks`` names the perturbations whose probabilities ``score`` reads, ``explains`` those whose maps it reads, and
    ``heads`` makes the changed copies of the map's own head whose maps of the plain photo it reads. ``low`` and
    ``high`` are the ends of the range that holds for every input.
    """

    name: str
    title: str
    paper: str
    unit: Literal["percent", "fraction"]
    better: Literal["higher", "lower"]
    low: float
    high: float
    score: Callable[[Measured, FidelitySettings], float]
    asks: Callable[[FidelitySettings], tuple[Perturbation, ...]] = _asks_nothing
    explains: Callable[[FidelitySettings], tuple[Perturbation, ...]] = _asks_nothing
    heads: "Callable[[Head, FidelitySettings], tuple[Head, ...]] | None" = None
    needs_truth: bool = False

    def perturbations(self, settings: FidelitySettings) -> tuple[Perturbation, ...]:
        """Return all perturbations whose photos have to go through the model."""
        return tuple(dict.fromkeys(self.asks(settings) + self.explains(settings)))

    def cost(self, settings: FidelitySettings) -> int:
        """Return how many modified photos the metric needs a map, if it shares none with another."""
        return sum(each.count(settings) for each in self.perturbations(settings))


@cache
def available() -> dict[str, FidelityMetric]:
    """Return all fidelity metrics by name."""
    modules = (importlib.import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__))
    metrics: list[FidelityMetric] = [module.FIDELITY for module in modules]
    return {metric.name: metric for metric in metrics}


def get(name: str) -> FidelityMetric:
    """Return the fidelity metric called ``name``; raises `ChoiceError` naming them all."""
    check_choice("fidelity metric", name, available())
    return available()[name]
