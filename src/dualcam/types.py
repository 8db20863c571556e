"""The legend of axes, and the small frozen records that pass between the parts.

Axes: B images, K explained classes, C all classes, D feature channels, (h, w) feature cells, (H, W) pixels.
Boxes are XYXY, half-open, in source pixels. Logits are unbounded scores before softmax or sigmoid.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

from dualcam.tuning import Tuning

if TYPE_CHECKING:  # the command line reads the choices below, and its help is not to wait for torch
    from torch import Tensor

Branch = Literal["sigmoid", "softmax"]
Sign = Literal["positive", "signed", "negative"]
Normalization = Literal["max", "minmax", "ivr"]
Score = Literal["logit", "centered", "log-odds", "log-probability", "probability", "rest", "finer"]
Fuse = Literal["max", "mean"]
Fit = Literal["squash", "crop", "pad"]
Precision = Literal["32-true", "16-mixed", "bf16-mixed"]
Balance = Literal["uniform", "frequency", "none"]
Outputs = Literal["softmax", "sigmoid"]
Layout = Literal["NCHW", "NHWC", "tokens"]
HeadKind = Literal["pooled-linear", "pooled-conv", "norm-linear", "mlp", "tail"]


class BranchLogits(NamedTuple):
    """Logits of both branches from one pass, each [B, C], or [B, K] where classes were asked for."""

    softmax: "Tensor"
    sigmoid: "Tensor"


Need = Literal["image-scores", "activation-scores", "moments", "attention"]
"""What a method may ask of the model beyond activations and gradients; `Probes` says what each is."""


class Moments(NamedTuple):
    """Means of g, g^2 and g^3 over noisy copies of the images, each broadcastable to [B, K, D, h, w]."""

    first: "Tensor"
    second: "Tensor"
    third: "Tensor"


class Relevance(NamedTuple):
    """Means, over blocks, heads and queries, of relu(g) and relu(-g), g = ds_l / dA_l by attention: [B, K, h, w]."""

    favor: "Tensor"
    against: "Tensor"


@dataclass(frozen=True)
class Probes:
    """What a method that declares a `Need` may ask of the model; each call runs it, or its head.

    ``images`` [B, 3, H, W] as the model takes them. ``image_scores`` (need "image-scores"): images [B, N, 3, H, W] ->
    [B, N, K], of the explained classes: p_k where the score is the logit (logits of different images do not compare),
    else the score. ``activation_scores`` ("activation-scores"): activations [B, N, D, h, w] -> explained scores
    [B, N, K]. ``linear``: the score is a constant plus ``class_rows`` times the mean activations. ``moments``
    ("moments"). ``attention`` ("attention"): what a transformer's attention does to the scores. ``tuning``: the user's
    numbers. What was not asked for is None.
    """

    images: "Tensor"
    linear: bool
    tuning: Tuning
    image_scores: "Callable[[Tensor], Tensor] | None" = None
    activation_scores: "Callable[[Tensor], Tensor] | None" = None
    moments: Moments | None = None
    attention: Relevance | None = None


class Tapped(NamedTuple):
    """What one forward of a wrapped model leaves, for every head, method and score.

    ``activations`` F [B, D, h, w], without a graph; ``logits`` [B, C] of the softmax branch. Heads of kind "tail" read
    the last layer's inputs, ``features``, which autograd follows back to a ``leaf``, equal to F; both are of the whole
    batch, of which this part has the rows ``places`` (None: all). Heads of the other kinds read F itself: there is
    no leaf then, and ``features`` is F. `Head.input_of` chooses.
    """

    activations: "Tensor"
    logits: "Tensor"
    features: "Tensor"
    leaf: "Tensor | None" = None
    places: "Sequence[int] | None" = None

    @classmethod
    def of(cls, activations: "Tensor") -> "Tapped":
        """Return what heads that read ``activations`` [B, D, h, w] need; a "tail" head reads more than that."""
        return cls(activations, activations.new_empty(len(activations), 0), activations)

    def part(self, places: "Sequence[int]") -> "Tapped":
        """Return what it leaves of the images at ``places`` of a whole batch."""
        assert self.places is None
        rows = list(places)
        return Tapped(self.activations[rows], self.logits[rows], self.features, self.leaf, rows)


@dataclass(frozen=True)
class Evidence:
    """What a CAM method may read.

    ``activations`` F is [..., D, h, w]. ``gradients`` g = ds_k/dF broadcasts to it: [..., D, h, w], or [..., D, 1, 1]
    where the head is pooled linear and the gradient is the same in every cell. ``class_rows`` [..., D, 1, 1] are the
    linear head's weights of the explained score, or None where the head has no such row. ``probes`` is there for the
    methods that declare a need; F then is [B, 1, D, h, w] and g broadcasts to [B, K, D, h, w]. Of the need "attention"
    F is 1 in every cell, [B, 1, 1, h, w]: such a method's weights are the map.
    """

    activations: "Tensor"
    gradients: "Tensor"
    class_rows: "Tensor | None"
    probes: Probes | None = None

    def negated(self) -> "Evidence":
        """Return the evidence with gradients of the other sign, as against the class."""
        probes = self.probes
        if probes is not None and probes.moments is not None:
            first, second, third = probes.moments
            probes = replace(probes, moments=Moments(-first, second, -third))
        if probes is not None and probes.attention is not None:
            favor, against = probes.attention
            probes = replace(probes, attention=Relevance(against, favor))
        return replace(self, gradients=-self.gradients, probes=probes)


@dataclass(frozen=True)
class Box:
    """A box in source pixels (XYXY, half-open) with the share [0, 1] of the map's evidence inside its component."""

    x0: int
    y0: int
    x1: int
    y1: int
    score: float
