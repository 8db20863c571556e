"""The choices that fidelity metrics leave open; their names and defaults, without PyTorch."""

from dataclasses import dataclass
from typing import Literal, get_args

from dualcam.errors import ChoiceError, check_choice

Space = Literal["pixels", "normalized"]
Baseline = Literal["blur", "mean", "zero"]
Surgery = Literal["shuffle", "redraw"]


@dataclass(frozen=True)
class FidelitySettings:
    """How photos are modified; raises `ChoiceError` for values outside of their ranges.

    ``space``: masks, baselines and noise apply to RGB values in [0, 1] before normalization ("pixels"), or to what
    the model sees ("normalized", as most published numbers have it: what a mask takes away is then not black but the
    data set's mean color). ``steps``: equal parts into which insertion and deletion divide the pixels; RISE's own
    224 on 224 x 224 costs ten times the default. Baselines: "blur" is RISE's, of ``blur_sigma`` over ``blur_size``
    pixels, "mean" the photo's mean color, "zero" zeros of the space. ROAD removes ``road_percentages`` of the pixels
    and adds noise of deviation ``road_noise``; sensitivity looks at ``sensitivity_samples`` photos whose values differ
    by up to ``sensitivity_radius``: all in the units of the space. ``head_surgery`` is what the randomization
    check does to ``head_draws`` copies of the head. All randomness is from ``seed``: every photo and map has the same.
    """

    space: Space = "pixels"
    steps: int = 20
    insertion_baseline: Baseline = "blur"
    deletion_baseline: Baseline = "mean"
    blur_size: int = 11
    blur_sigma: float = 5.0
    road_percentages: tuple[float, ...] = (10, 20, 30, 40, 50, 60, 70, 80, 90)
    road_noise: float = 0.01
    sensitivity_radius: float = 0.02
    sensitivity_samples: int = 10
    head_surgery: Surgery = "shuffle"
    head_draws: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("space", self.space, get_args(Space))
        check_choice("insertion_baseline", self.insertion_baseline, get_args(Baseline))
        check_choice("deletion_baseline", self.deletion_baseline, get_args(Baseline))
        check_choice("head_surgery", self.head_surgery, get_args(Surgery))
        for name in ("steps", "sensitivity_samples", "head_draws"):
            if getattr(self, name) < 1:
                raise ChoiceError(f"{name} must be at least 1; got {getattr(self, name)}")
        for name in ("road_noise", "sensitivity_radius"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ChoiceError(f"{name} must be a finite number, at least 0; got {getattr(self, name)}")
        if self.blur_size < 1 or self.blur_size % 2 == 0 or not 0 < self.blur_sigma < float("inf"):
            raise ChoiceError(
                f"a blur needs an odd blur_size and a blur_sigma above 0; got {self.blur_size} and {self.blur_sigma}"
            )
        if not self.road_percentages or not all(0 < share < 100 for share in self.road_percentages):
            raise ChoiceError(f"road_percentages must lie between 0 and 100, at least one; got {self.road_percentages}")
