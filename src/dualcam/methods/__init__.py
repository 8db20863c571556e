"""CAM methods: one file each, found by listing this folder.

A method module holds one function `Evidence -> weights` that broadcast to the activations [..., D, h, w], and a record
``METHOD`` about it. Branch, sign, explained score and normalization are the caller's, so each combines with all.
"""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal

from torch import Tensor

from dualcam.errors import check_choice
from dualcam.tuning import Tuning, check_read, parse_tuning
from dualcam.types import Evidence, Need


@dataclass(frozen=True)
class Method:
    """A CAM method.

    ``weights`` is signed, unless ``rectified``: then it keeps only the part for the class, and the signed weights are
    f(g) - f(-g). ``needs_rows``: the method reads the linear head's class rows, not gradients. ``total`` says how
    the signed map of a pooled linear head adds up to the logit without its bias: by its "mean", its "sum", or not.
    ``homogeneous``: a positive factor on the gradients (or rows) is one on the weights. ``gradient_free``: they are
    not read. ``per_class``: whether two classes, or two scores, have maps of their own. ``usual``: whether comparisons
    hold the method unasked; one that costs many forwards, knows no class, or equals another is not. ``needs``: what
    the method asks of the model, found in ``evidence.probes``; ``reads``: the fields of `Tuning` that it reads.
    """

    name: str
    weights: Callable[[Evidence], Tensor]
    paper: str
    needs_rows: bool = False
    rectified: bool = False
    total: Literal["mean", "sum"] | None = None
    homogeneous: bool = False
    gradient_free: bool = False
    per_class: bool = True
    usual: bool = True
    needs: tuple[Need, ...] = ()
    reads: tuple[str, ...] = ()


@cache
def available() -> dict[str, Method]:
    """Return all methods by name."""
    modules = (importlib.import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__))
    methods: list[Method] = [module.METHOD for module in modules]
    return {method.name: method for method in methods}


def get(name: str) -> Method:
    """Return the method called ``name``; raises `ChoiceError` naming them all."""
    check_choice("method", name, available())
    return available()[name]


def spelled(name: str) -> tuple[Method, Tuning]:
    """Return the method and the numbers of a name that may hold some: "score-cam:top_k=64"; raises `ChoiceError`."""
    plain, _, numbers = name.partition(":")
    method, tuning = get(plain), parse_tuning(numbers)
    check_read(tuning, method.reads, f"method {plain!r}")
    return method, tuning
