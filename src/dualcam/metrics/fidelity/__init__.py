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
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dualcam.errors import check_choice
from dualcam.metrics.fidelity_settings import FidelitySettings

if TYPE_CHECKING:
    from torch import Tensor

    from dualcam.heads import Head

Maker: TypeAlias = "Callable[[Tensor], Tensor]"


@dataclass(frozen=True)
class Perturbation:
    """Photos made of one photo and one map.

    ``view`` [H, W] -> tensor: all that the photos depend on of the map, so that maps with equal views have equal
    photos. ``parts`` (view, settings) -> [S, ...]: what each of the photos depends on, where it is less than the view:
    two views may have equal parts. ``make`` (photo [3, H, W], settings) returns what makes of a part (or of the view,
    without ``parts``: one photo) the photo [3, H, W], a new tensor of the photo's type; what all photos have in common
    is made before. ``count`` is S. Equal perturbations are the same object, and so are equal views and ``make``: what
    one of them made of a map, or of a part, serves all perturbations that have it.
    """

    name: str
    view: "Callable[[Tensor], Tensor]"
    make: "Callable[[Tensor, FidelitySettings], Maker]"
    count: Callable[[FidelitySettings], int]
    parts: "Callable[[Tensor, FidelitySettings], Tensor] | None" = None

    def __call__(self, photo: "Tensor", heat: "Tensor", settings: FidelitySettings) -> "Tensor":
        """Return the photos [S, 3, H, W] for a map ``heat`` [H, W]."""
        import torch

        view, make = self.view(heat), self.make(photo, settings)
        photos = [make(part) for part in ([view] if self.parts is None else self.parts(view, settings))]
        return torch.stack(photos) if photos else photo.new_empty((0, *photo.shape))


@dataclass(frozen=True)
class Measured:
    """What is known of one map on one photo, as far as the metrics at hand ask for it.

    ``probability`` is p_k(x), ``probabilities`` [S] those of each perturbation's photos. ``maps`` [S, H, W] are the
    maps that the same method, branch, sign and normalization draws of class k on the photos of a perturbation;
    ``redrawn`` [R, H, W] those of the plain photo by the heads of `FidelityMetric.heads`; in their place ``ranks``
    [1 + R, H * W] of the map itself and these, from 0, ties in the middle, `FidelityMetric.by_rank`. Pixels that only
    the rounding of a normalization makes equal are no ties there. ``truth`` [H, W] is 1 on the
    object (the union of its boxes, or its mask), 0 beside it, 255 ignored; None where nothing is known.
    """

    heat: NDArray[np.float32]
    probability: float = float("nan")
    probabilities: Mapping[Perturbation, NDArray[np.floating]] = field(default_factory=dict)
    maps: Mapping[Perturbation, NDArray[np.float32]] = field(default_factory=dict)
    redrawn: NDArray[np.float32] | None = None
    ranks: NDArray[np.float64] | None = None
    truth: NDArray[np.uint8] | None = None


def _asks_nothing(settings: FidelitySettings) -> tuple[Perturbation, ...]:
    return ()


@dataclass(frozen=True)
class FidelityMetric:
    """A fidelity metric: a figure a photo, whose mean over photos is reported.

    ``asks`` names the perturbations whose probabilities ``score`` reads, ``explains`` those whose maps it reads, and
    ``heads`` makes the changed copies of the map's own head whose maps of the plain photo it reads, ``by_rank`` only
    the ranks of their pixels. ``low`` and ``high`` are the ends of the range that holds for every input.
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
    by_rank: bool = False
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
