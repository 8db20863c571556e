"""From a layer's output to activations on a grid of cells, and back: [B, D, h, w], [B, h, w, D] or tokens [B, N, D]."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dualcam.errors import ModelError
from dualcam.types import Layout

MOST_EXTRA = 64
"""Tokens that may stand beside those of the cells: class, register, distillation and prompt tokens."""

LOCAL = 2.0
"""How many times as much as the median cell the most moved one moves, where a change of the image stays local."""


@dataclass(frozen=True)
class Cells:
    """Where the cells lie in a layer's output.

    ``grid`` (h, w) cells came of an input of ``size`` (H, W) pixels; other sizes have as many cells a pixel. In the
    layout "tokens", ``leading`` tokens come before the cells', ``trailing`` after them, and ``order`` (None: row by
    row) holds each cell's place among the cells' tokens.
    """

    layout: Layout
    grid: tuple[int, int]
    size: tuple[int, int]
    leading: int = 0
    trailing: int = 0
    order: tuple[int, ...] | None = None

    def take(self, output: Tensor, size: tuple[int, int]) -> Tensor:
        """Return F [B, D, h, w] of a layer's ``output`` for an input of ``size`` (H, W); a view where it can be."""
        if self.layout == "NCHW":
            return output
        if self.layout == "NHWC":
            return output.permute(0, 3, 1, 2)
        tokens = output[:, self.leading : output.shape[1] - self.trailing]
        if self.order is not None:
            tokens = tokens[:, torch.tensor(self.order, device=tokens.device)]
        height, width = self.grid_of(tokens.shape[1], size)
        return tokens.transpose(1, 2).reshape(len(tokens), -1, height, width)

    def put(self, output: Tensor, activations: Tensor) -> Tensor:
        """Return ``output`` with ``activations`` [B, D, h, w] in its cells, in memory of its own."""
        if self.layout == "NCHW":
            return activations.clone()
        if self.layout == "NHWC":
            return activations.permute(0, 2, 3, 1).clone()
        tokens = activations.flatten(2).transpose(1, 2)
        if self.order is not None:
            tokens = tokens[:, torch.tensor(self.order, device=tokens.device).argsort()]
        if not self.leading and not self.trailing:
            return tokens.clone()
        last = output.shape[1] - self.trailing
        return torch.cat([output[:, : self.leading], tokens, output[:, last:]], 1)

    def grid_of(self, count: int, size: tuple[int, int]) -> tuple[int, int]:
        """Return (h, w) with h * w = ``count`` for an input of ``size`` (H, W); raises `ModelError`."""
        if count == self.grid[0] * self.grid[1] and (size == self.size or self.order is not None):
            return self.grid
        expected = tuple(size[axis] * self.grid[axis] / self.size[axis] for axis in (0, 1))
        near = (round(expected[0]), round(expected[1]))
        if near[0] * near[1] == count:
            return near
        fitting = [
            (height, count // height)
            for height in range(1, count + 1)
            if count % height == 0 and abs(height - expected[0]) < 1 and abs(count // height - expected[1]) < 1
        ]
        if not fitting or self.order is not None:
            raise ModelError(
                f"{count} tokens do not make a grid for an input of {size[0]} x {size[1]} px: {self.grid[0]} x "
                f"{self.grid[1]} were found at {self.size[0]} x {self.size[1]} px; use that input size"
            )
        return fitting[0]


def cells_of(
    shape: torch.Size,
    size: tuple[int, int],
    *,
    layout: Layout | None = None,
    grid: tuple[int, int] | None = None,
    known: Sequence[tuple[int, int]] = (),
) -> Cells | None:
    """Return where cells lie in an output of ``shape`` for an input of ``size``, or None where it has none.

    ``layout`` and ``grid`` are the user's word; ``known`` are grids seen elsewhere in the model, the latest first.
    """
    if len(shape) == 3 and layout in (None, "tokens"):
        found = token_grid(shape[1], size, [grid] if grid else known)
        if found is None or (grid and found != grid):
            return None
        return Cells("tokens", found, size, leading=shape[1] - found[0] * found[1])
    if len(shape) == 4 and layout != "tokens":
        layouts: list[tuple[Layout, tuple[int, int]]] = [
            ("NCHW", (shape[2], shape[3])),
            ("NHWC", (shape[1], shape[2])),
        ]
        for name, cells in layouts:
            if layout in (None, name) and grid in (None, cells) and fits(*cells, size):
                return Cells(name, cells, size)
    return None


def fits(height: int, width: int, size: tuple[int, int]) -> bool:
    """Whether a grid of ``height`` x ``width`` cells has the proportions of an input of ``size``, and is coarser."""
    if height * width < 2 or height > size[0] // 2 + 1 or width > size[1] // 2 + 1:
        return False
    return abs(height - size[0] * width / size[1]) < 1 and abs(width - size[1] * height / size[0]) < 1


def token_grid(count: int, size: tuple[int, int], known: Sequence[tuple[int, int]]) -> tuple[int, int] | None:
    """Return the grid of ``count`` tokens of which some may be no cells: a ``known`` one, else the largest."""
    for height, width in known:
        if 0 <= count - height * width <= MOST_EXTRA:
            return height, width
    ratio = size[0] / size[1]
    for cells in range(count, max(0, count - MOST_EXTRA) - 1, -1):
        height = round((cells * ratio) ** 0.5)
        if height and cells % height == 0 and fits(height, cells // height, size):
            return height, cells // height
    return None


def lies_in_place(activations: Callable[[Tensor], Tensor], image: Tensor) -> bool | None:
    """Whether a change inside of each quadrant of ``image`` [B, 3, H, W] moves F most in a cell of that quadrant.

    None where the answer says nothing: every cell moves about as much, as after attention that looks everywhere alike.
    """
    places = [(row, column) for row in (0.25, 0.75) for column in (0.25, 0.75)]
    moved = _moved(activations, image[:1], places, (0.25, 0.25))
    height, width = moved.shape[1:]
    misplaced = 0
    for (row, column), each in zip(places, moved, strict=True):
        top, left = divmod(int(each.argmax()), width)
        center = (top + 0.5) / height - 0.5, (left + 0.5) / width - 0.5
        misplaced += center[0] * (row - 0.5) < 0 or center[1] * (column - 0.5) < 0
    if not misplaced:
        return True
    local = moved.flatten(1).amax(1) > LOCAL * moved.flatten(1).median(1).values
    return False if bool(local.all()) else None


def find_order(activations: Callable[[Tensor], Tensor], image: Tensor) -> tuple[int, ...] | None:
    """Return each cell's place among tokens that are in an order of their own, or None where changes do not tell it.

    ``activations`` returns F in the tokens' own order: [B, D, h, w] whose cells are shuffled.
    """
    height, width = activations(image[:1]).shape[2:]
    places = [((row + 0.5) / height, (column + 0.5) / width) for row in range(height) for column in range(width)]
    moved = _moved(activations, image[:1], places, (0.5 / height, 0.5 / width)).flatten(1)
    order = tuple(moved.argmax(1).tolist())
    return order if len(set(order)) == len(order) else None


def _moved(
    activations: Callable[[Tensor], Tensor],
    image: Tensor,
    places: Sequence[tuple[float, float]],
    extent: tuple[float, float],
) -> Tensor:
    """Return how far F moves in each cell, [places, h, w], when a rectangle (center, extent: shares) of it changes."""
    height, width = image.shape[2:]
    plain = activations(image)
    moved = []
    for row, column in places:
        top, left = round((row - extent[0] / 2) * height), round((column - extent[1] / 2) * width)
        bottom, right = round((row + extent[0] / 2) * height), round((column + extent[1] / 2) * width)
        changed = image.clone()
        changed[:, :, top:bottom, left:right] = 3 - 2 * changed[:, :, top:bottom, left:right]
        moved.append((activations(changed) - plain).float().norm(dim=1)[0])
    return torch.stack(moved)
