"""What an explanation holds, and what can be made of it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dualcam import heatmap as heatmaps
from dualcam.data.preprocessing import Placement, to_source
from dualcam.errors import ChoiceError
from dualcam.localize import find_boxes
from dualcam.types import Box, BranchLogits, Normalization, Sign

BOX_GRID = 1024
"""Long side, in pixels, of the grid on which boxes of large photos are found; far finer than any feature cell."""


@dataclass(frozen=True, eq=False)
class ClassEvidence:
    """The evidence of one image for one class.

    ``signed`` is the raw signed map [h, w] at feature size, before any clamp or normalization; ``raw`` the same
    after the sign policy. Their unit is the logit: for CAM on a pooled linear head mean(signed) + bias is the
    branch's logit, and ``residual`` says how exactly (None where the law does not hold). ``softmax_logit`` and
    ``sigmoid_logit`` are the branches' scores of the class, ``probability`` is the classifier's, in [0, 1].
    ``is_finite`` is False where activations or weights held NaN or infinity: both maps are zeros then.
    """

    index: int
    name: str
    probability: float
    softmax_logit: float
    sigmoid_logit: float
    signed: Tensor
    raw: Tensor
    is_finite: bool
    residual: float | None
    sign: Sign
    normalization: Normalization | None
    placement: Placement
    size: tuple[int, int] | None
    picture: Callable[[], Image.Image]

    @property
    def map(self) -> NDArray[np.float32]:
        """The map at image size (or the ``size`` asked for): normalized to [0, 1], or logits if normalize=None."""
        if self.normalization is None:
            return self.logit_map(self.size)
        return self.heatmap(size=self.size)

    def logit_map(self, size: tuple[int, int] | None = None) -> NDArray[np.float32]:
        """Return ``raw`` resized to the source photo, or to ``size`` (height, width) of it, in logits."""
        return to_source(self.raw.float().cpu().numpy(), self.placement, size)

    def heatmap(
        self, normalize: Normalization | None = None, *, size: tuple[int, int] | None = None
    ) -> NDArray[np.float32]:
        """Return the map resized to the source photo (or ``size``), then normalized once to [0, 1].

        A negative map is turned over first, so that 1 is the strongest evidence against. A map with nothing to show
        (see `is_flat`) gives zeros.
        """
        values = self.logit_map(size or self.size)
        if self.sign == "negative":
            values = -values
        return heatmaps.normalize(values, normalize or self.normalization or "max")

    @property
    def is_flat(self) -> bool:
        """Whether the heat map is all zeros: nothing to show under this sign and normalization."""
        return not self.heatmap(size=(64, 64)).any()

    @property
    def box_grid(self) -> tuple[int, int]:
        """The size (height, width) on which boxes are found: the source's, or smaller where that is large."""
        width, height = self.placement.source
        shrink = min(1.0, BOX_GRID / max(width, height))
        return max(1, round(height * shrink)), max(1, round(width * shrink))

    def boxes(self, threshold: float = 0.2) -> list[Box]:
        """Return boxes (XYXY, half-open, source pixels) of the components above ``threshold`` x maximum, best first.

        A box's score is the share [0, 1] of the heat map's sum inside its component.
        """
        (width, height), grid = self.placement.source, self.box_grid
        return find_boxes(self.heatmap(size=grid), threshold, scale=(width / grid[1], height / grid[0]))

    def overlay(self, *, box: bool = True, threshold: float = 0.2) -> Image.Image:
        """Return the photo with the heat map over it and, if ``box``, the best box."""
        from dualcam.overlay import draw_box, heat_over

        picture = self.picture()
        image = heat_over(picture, self.heatmap(size=(picture.height, picture.width)))
        boxes = self.boxes(threshold) if box else []
        if boxes:
            scale = (picture.width / self.placement.source[0], picture.height / self.placement.source[1])
            draw_box(image, boxes[0], scale)
        return image

    def save(self, path: str | PathLike[str]) -> None:
        """Write the overlay (a picture suffix) or the arrays (``.npz``: signed, raw, heatmap); whole or not at all.

        Raises `ChoiceError` for a suffix of neither.
        """
        from dualcam.files import write_whole

        file = Path(path)
        kind = Image.registered_extensions().get(file.suffix.lower())
        if file.suffix != ".npz" and kind not in Image.SAVE:
            raise ChoiceError(f"{file.name!r} has no suffix of a picture (.png, .jpg, .webp, ...), nor .npz of arrays")
        with write_whole(file) as temporary:
            if file.suffix == ".npz":
                with temporary.open("wb") as stream:
                    signed, raw = (item.float().cpu().numpy() for item in (self.signed, self.raw))
                    np.savez(stream, heatmap=self.heatmap(), signed=signed, raw=raw)
            else:
                self.overlay().save(temporary, format=kind)


@dataclass(frozen=True, eq=False)
class Explanation(Sequence[ClassEvidence]):
    """The evidence in one image, class by class; a sequence of `ClassEvidence`, in the order asked for.

    It is empty where labels over a threshold were asked for and none is.

    ``indices`` [K]; ``signed`` and ``raw`` [K, h, w]; ``finite`` [K], False where a map could not be made and is zeros;
    ``residuals`` [K] or None; ``logits`` both branches' [K], of the classes asked for; ``probabilities`` [C] of the
    classifier.
    """

    source: str | None
    placement: Placement
    indices: Tensor
    names: tuple[str, ...] | None
    signed: Tensor
    raw: Tensor
    finite: Tensor
    residuals: Tensor | None
    logits: BranchLogits
    probabilities: Tensor
    sign: Sign
    normalization: Normalization | None
    size: tuple[int, int] | None
    picture: Callable[[], Image.Image]

    @property
    def is_finite(self) -> bool:
        """Whether all of it is finite numbers: maps, logits, and the probabilities of all classes."""
        numbers = torch.cat((*self.logits, self.probabilities))
        return bool(self.finite.all()) and bool(torch.isfinite(numbers).all())

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, position: int) -> ClassEvidence: ...
    @overload
    def __getitem__(self, position: slice) -> list[ClassEvidence]: ...
    def __getitem__(self, position: int | slice) -> ClassEvidence | list[ClassEvidence]:
        """Return the evidence for the class at ``position`` among those asked for."""
        if isinstance(position, slice):
            return [self[item] for item in range(*position.indices(len(self)))]
        if not len(self):
            raise ChoiceError("no label of this photo is over the threshold: there is nothing to show of it")
        index = int(self.indices[position])
        return ClassEvidence(
            index=index,
            name=self.names[index] if self.names else str(index),
            probability=float(self.probabilities[index]),
            softmax_logit=float(self.logits.softmax[position]),
            sigmoid_logit=float(self.logits.sigmoid[position]),
            signed=self.signed[position],
            raw=self.raw[position],
            is_finite=bool(self.finite[position]),
            residual=None if self.residuals is None else float(self.residuals[position]),
            sign=self.sign,
            normalization=self.normalization,
            placement=self.placement,
            size=self.size,
            picture=self.picture,
        )

    def __iter__(self) -> Iterator[ClassEvidence]:
        return (self[position] for position in range(len(self)))

    def heatmap(self) -> NDArray[np.float32]:
        """Return the first class's heat map; see `ClassEvidence.heatmap`."""
        return self[0].heatmap()

    def boxes(self, threshold: float = 0.2) -> list[Box]:
        """Return the first class's boxes; see `ClassEvidence.boxes`."""
        return self[0].boxes(threshold)

    def overlay(self) -> Image.Image:
        """Return the first class's overlay; see `ClassEvidence.overlay`."""
        return self[0].overlay()

    def save(self, path: str | PathLike[str]) -> None:
        """Write the first class's overlay or arrays; see `ClassEvidence.save`."""
        self[0].save(path)
