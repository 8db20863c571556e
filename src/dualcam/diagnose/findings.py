"""What a diagnosis found, as records."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dualcam.diagnose.baselines import Comparison, Localization
from dualcam.diagnose.collapse import Collapse
from dualcam.diagnose.maps import Drawn
from dualcam.diagnose.observe import Observed
from dualcam.diagnose.recovery import Recovery
from dualcam.diagnose.settings import DiagnoseSettings
from dualcam.diagnose.shift import ShiftEffect, SigmoidShift
from dualcam.metrics.bootstrap import Interval


@dataclass(frozen=True)
class Diagnosis:
    """Everything that was measured; None stands for what does not apply, and ``reason`` says why.

    ``arbitrary`` is the share of the energy of the model's maps that its mean row accounts for, mean over photos;
    ``mean_row`` the mean row's norm as a share of a row's. ``accuracy``: how often prediction and label agree.
    """

    method: str
    photos: int
    row_length: int | None
    classes: int
    mean_row: float | None
    arbitrary: Interval
    accuracy: Interval | None
    reason: str | None
    shifts: tuple[ShiftEffect, ...] | None
    sigmoid_shifts: tuple[SigmoidShift, ...] | None
    recovery: Recovery | None
    recovery_reason: str | None
    collapse: Collapse | None
    comparisons: tuple[Comparison, ...]
    localization: tuple[Localization, ...] | None


@dataclass(frozen=True)
class Findings:
    """A diagnosis with what it was made of, for the figure; ``directions`` [draws, E] are the shifts' unit vectors."""

    diagnosis: Diagnosis
    settings: DiagnoseSettings
    observed: Observed
    drawn: Drawn
    directions: Tensor
    index: NDArray[np.int64]
