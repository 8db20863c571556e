"""The legend of axes, and the small frozen records that pass between the parts.

Axes: B images, K explained classes, C all classes, D feature channels, (h, w) feature cells, (H, W) pixels.
Boxes are XYXY, half-open, in source pixels. Logits are unbounded scores before softmax or sigmoid.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:  # the command line reads the choices below, and its help is not to wait for torch
    from torch import Tensor

Branch = Literal["sigmoid", "softmax"]
Sign = Literal["positive", "signed", "negative"]
Normalization = Literal["max", "minmax", "ivr"]
Score = Literal["logit", "centered", "log-odds", "log-probability", "probability", "rest", "finer"]
Fit = Literal["squash", "crop", "pad"]
Balance = Literal["uniform", "frequency", "none"]
Layout = Literal["NCHW", "NHWC"]
Outputs = Literal["softmax", "sigmoid"]
HeadKind = Literal["pooled-linear", "pooled-conv", "norm-linear", "mlp"]


class BranchLogits(NamedTuple):
    """Logits of both branches from one pass, each [B, C], or [B, K] where classes were asked for."""

    softmax: "Tensor"
    sigmoid: "Tensor"


@dataclass(frozen=True)
class Evidence:
    """What a CAM method may read.

    ``activations`` F is [..., D, h, w]. ``gradients`` g = ds_k/dF broadcasts to it: [..., D, h, w], or [..., D, 1, 1]
    where the head is pooled linear and the gradient is the same in every cell. ``class_rows`` [..., D, 1, 1] are the
    linear head's weights of the explained score, or None where the head has no such row.
    """

    activations: "Tensor"
    gradients: "Tensor"
    class_rows: "Tensor | None"


@dataclass(frozen=True)
class Box:
    """A box in source pixels (XYXY, half-open) with the share [0, 1] of the map's evidence inside its component."""

    x0: int
    y0: int
    x1: int
    y1: int
    score: float
