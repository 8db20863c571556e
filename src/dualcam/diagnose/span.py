"""Coordinates of what the photos span: in them a retraining takes the same steps, with fewer numbers.

Gradient descent and L-BFGS know inner products only, so an orthogonal change of coordinates changes no step, and all
directions outside of the span behave like one of them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from dualcam.diagnose.shift import draw_directions

RANK_TOLERANCE = 1e-6
"""Singular values below this share of the largest are rounding, not a direction that the data span."""


@dataclass(frozen=True)
class Coordinates:
    """An orthonormal ``basis`` [E, r] of what the inputs span, and one unit vector ``outside`` [E, 1], or [E, 0]."""

    basis: Tensor
    outside: Tensor

    def of(self, vectors: Tensor) -> Tensor:
        """Return the coordinates [..., r + 1] (or r) of ``vectors`` [..., E]."""
        return vectors @ torch.cat((self.basis, self.outside), 1)


def find_coordinates(inputs: Tensor, seed: int) -> Coordinates:
    """Return coordinates of the span of ``inputs`` [N, E], and a direction outside drawn by ``seed``."""
    _, values, right = torch.linalg.svd(inputs, full_matrices=False)
    rank = int((values > RANK_TOLERANCE * values.max()).sum())
    basis = right[:rank].T
    if rank == inputs.shape[1]:
        return Coordinates(basis, inputs.new_zeros(inputs.shape[1], 0))
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(inputs.shape[1], generator=generator, dtype=inputs.dtype)
    for _ in range(2):  # once more, against rounding
        drawn = drawn - basis @ (basis.T @ drawn)
    return Coordinates(basis, (drawn / drawn.norm())[:, None])


def planted_shifts(inputs: Tensor, coordinates: Coordinates, norm: float, draws: int, seed: int) -> list[Tensor]:
    """Return shifts of rows and biases, [r + 2] (or r + 1) in coordinates with the bias last, of the given norm."""
    ones = inputs.new_ones(len(inputs), 1)
    mixes = draw_directions(torch.cat((inputs, ones), 1), draws, seed + 1)
    inside = torch.cat((coordinates.of(mixes[:, :-1]), mixes[:, -1:]), 1)
    if not coordinates.outside.shape[1]:
        return list(norm * inside)
    inside[:, -2] = 1.0
    return list(norm * inside / 2**0.5)


def span_with_bias(values: Tensor) -> Tensor:
    """Return an orthonormal basis [q, r + 2] (or r + 1) of the span of [values, 1]."""
    _, singular, right = torch.linalg.svd(torch.cat((values, values.new_ones(len(values), 1)), 1), full_matrices=False)
    spanned: Tensor = right[singular > RANK_TOLERANCE * singular.max()]
    return spanned
