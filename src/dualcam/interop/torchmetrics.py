"""Box accuracy and PxAP as `torchmetrics.Metric`, for training loops that have one (extra ``torchmetrics``).

States are int64 counts that are summed over processes: any split of the images gives the same figure. Maps and ground
truth are brought to the CPU, where they are counted.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from dualcam.errors import check_choice
from dualcam.metrics.box_curve import Mode, box_curve, cuts_of, quantize
from dualcam.metrics.localization import V2_DELTAS, Hits, count_hits, max_box_accuracy_over_test
from dualcam.metrics.pixel_ap import BINS, THRESHOLDS, average_precision, pixel_counts


class BoxAccuracy(Metric):
    """MaxBoxAccV2, or with ``contour="largest"`` and ``deltas=(0.5,)`` MaxBoxAcc, in percent.

    ``positions`` [D] fix each delta's threshold, as `best` gave them on other images; without them the thresholds are
    the best of the images seen, which is the paper's figure and flatters. ``thresholds`` [T] are shares of a map's
    maximum. ``mode`` is that of `box_curve`: ``clean`` boxes, or the reference evaluation's.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    correct: Tensor
    images: Tensor

    def __init__(
        self,
        deltas: Sequence[float] = V2_DELTAS,
        *,
        contour: Literal["any", "largest"] = "any",
        mode: Mode = "clean",
        thresholds: NDArray[np.float64] = THRESHOLDS,
        positions: Sequence[int] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        check_choice("contour", contour, ("any", "largest"))
        self.deltas, self.contour, self.mode = tuple(deltas), contour, mode
        self.thresholds, self.positions = thresholds, positions
        shape = (len(self.deltas), len(thresholds))
        self.add_state("correct", torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, maps: Tensor, boxes: Sequence[Tensor]) -> None:
        """Count ``maps`` [B, H, W] in [0, 1] with, for each, its true ``boxes`` [G, 4] (XYXY, map pixels), G >= 1."""
        if len(maps) != len(boxes):
            raise ValueError(f"expected boxes for each of {len(maps)} maps; got {len(boxes)}")
        for heatmap, truth in zip(_array(maps), boxes, strict=True):
            levels = quantize(heatmap)
            corners = truth.detach().cpu().numpy().astype(np.float64)
            curve = box_curve(levels, cuts_of(levels, self.thresholds), corners, mode=self.mode)
            hits = count_hits(curve.any if self.contour == "any" else curve.largest, self.deltas)
            self.correct += torch.from_numpy(hits.correct).to(self.correct.device)
            self.images += 1

    def compute(self) -> Tensor:
        """Return the mean over deltas in percent; NaN of no images."""
        hits = self._hits()
        chosen = self.positions
        value = max_box_accuracy_over_test(hits) if chosen is None else float(hits.at(chosen).mean())
        return torch.tensor(value, device=self.device)

    def best(self) -> list[int]:
        """Return per delta the position of the best threshold on the images of this process, for ``positions``."""
        return [int(position) for position in self._hits().best()]

    def _hits(self) -> Hits:
        return Hits(self.deltas, self.correct.cpu().numpy(), 0.0, int(self.images))


class PixelAveragePrecision(Metric):
    """PxAP over all pixels of all images seen, in percent, at thresholds 0, 0.001, ..., 1.

    NaN where there is no foreground.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    counts: Tensor

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.add_state("counts", torch.zeros((2, BINS), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, maps: Tensor, masks: Tensor) -> None:
        """Count ``maps`` [B, H, W] in [0, 1] with ``masks`` [B, H, W]: 0 background, 1 foreground, 255 ignored."""
        if maps.shape != masks.shape:
            raise ValueError(f"expected maps and masks of one shape; got {tuple(maps.shape)}, {tuple(masks.shape)}")
        for heatmap, mask in zip(_array(maps), masks.detach().cpu().numpy(), strict=True):
            self.counts += torch.from_numpy(pixel_counts(heatmap, mask)).to(self.counts.device)

    def compute(self) -> Tensor:
        """Return PxAP in percent."""
        return torch.tensor(float(average_precision(self.counts.cpu().numpy())), device=self.device)


def _array(maps: Tensor) -> NDArray[np.floating]:
    values = maps.detach().cpu()
    return values.numpy() if values.dtype in {torch.float32, torch.float64} else values.float().numpy()
