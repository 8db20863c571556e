"""Filling removed pixels so that each is the weighted mean of its eight neighbors, as ROAD does (before its noise).

Rong et al., ICML 2022, section 4.2: side neighbors weigh 1/6, corner neighbors 1/12; at the photo's border the weights
of those there are grow to one. The removed pixels' equations are a graph Laplacian with the kept pixels as its
boundary: symmetric and positive definite. They are solved by conjugate gradients, preconditioned by one multigrid
V-cycle: bilinear interpolation between removed pixels, Galerkin coarse operators, and Jacobi sweeps, which for this
very stencil shrink all that is rough to a third. Four to nine iterations do, whatever the hole: some 10 ms for
224 x 224 pixels.

Values are [3, h + 4, w + 4]: the grid begins at (1, 1), and around it and on cells that are no unknowns is zero, so
that no loop asks where it is. An operator is nine planes, the coefficients of a cell's 3 x 3 neighborhood in reading
order; the finest grid's is known and not stored.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from dualcam.metrics.compiled import helper, kernel

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
TOLERANCE = 1e-7
"""What is left of the residual, in the preconditioner's norm; values in [0, 1] are then right to 5e-5, mostly 1e-6."""
ITERATIONS = 200
COARSEST = 4
DAMPING = 0.9
"""Of Jacobi sweeps on coarse grids: keeps the V-cycle positive definite also beside ragged boundaries."""


@helper
def laplacian(photo: Floats, removed: Flags, unknown: Floats, diagonal: Floats, right: Floats) -> None:
    """Write the finest grid's unknowns (0 or 1), their diagonal and the right side."""
    height, width = removed.shape
    unknown[:] = 0
    diagonal[:] = 0
    right[:] = 0
    for y in range(height):
        for x in range(width):
            if not removed[y, x]:
                continue
            unknown[y + 1, x + 1] = 1
            for v in range(max(y - 1, 0), min(y + 2, height)):
                for u in range(max(x - 1, 0), min(x + 2, width)):
                    if v == y and u == x:
                        continue
                    weight = 1 / 6 if v == y or u == x else 1 / 12
                    diagonal[y + 1, x + 1] += weight
                    if not removed[v, u]:
                        for channel in range(3):
                            right[channel, y + 1, x + 1] += weight * photo[channel, v, u]


@helper
def fine_row(unknown: Floats, diagonal: Floats, y: int, x: int, row: Floats) -> None:
    """Write the finest operator's coefficients [9] of cell (y, x)."""
    for place in range(9):
        weight = 1 / 6 if place % 2 else 1 / 12
        row[place] = -weight * unknown[y + place // 3, x + place % 3]
    row[4] = diagonal[y + 1, x + 1]


@helper
def galerkin_row(fine: Floats, unknown: Floats, diagonal: Floats, y: int, x: int, row: Floats, scratch: Floats) -> None:
    """Write the coefficients [9] of P^T A P at the coarse cell (y, x); ``fine`` is empty for the finest operator.

    P is bilinear, and zero where a cell is no unknown.
    """
    row[:] = 0
    height, width = unknown.shape[0] - 4, unknown.shape[1] - 4
    for v in range(max(2 * y - 1, 0), min(2 * y + 2, height)):
        for u in range(max(2 * x - 1, 0), min(2 * x + 2, width)):
            if unknown[v + 1, u + 1] == 0:
                continue
            if len(fine):
                scratch[:] = fine[:, v + 1, u + 1]
            else:
                fine_row(unknown, diagonal, v, u, scratch)
            share = 1 / ((1 + v % 2) * (1 + u % 2))
            for place in range(9):
                if scratch[place] == 0:
                    continue
                j, i = v + place // 3 - 1, u + place % 3 - 1
                amount = share * scratch[place] / ((1 + j % 2) * (1 + i % 2))
                for above in range(j // 2, j // 2 + 1 + j % 2):
                    for left in range(i // 2, i // 2 + 1 + i % 2):
                        row[3 * (above - y) + left - x + 4] += amount


@helper
def coarsen(
    fine: Floats, unknown: Floats, diagonal: Floats, inner: Flags, coarse: Floats, found: Floats, inner_found: Flags
) -> None:
    """Write the Galerkin operator, its unknowns, and which cells are ``inner``: far from all boundaries.

    All inner cells of a grid have the same coefficients, so that these are made once.
    """
    row, scratch, usual = np.zeros(9), np.zeros(9), np.zeros(9)
    known = False
    coarse[:] = 0
    found[:] = 0
    inner_found[:] = False
    for y in range(coarse.shape[1] - 4):
        for x in range(coarse.shape[2] - 4):
            within = True
            some = 0.0
            for v in range(2 * y, 2 * y + 3):
                for u in range(2 * x, 2 * x + 3):
                    within = within and inner[v, u]
                    some += unknown[v, u]
            if some == 0:
                continue
            if within and known:
                row[:] = usual
            else:
                galerkin_row(fine, unknown, diagonal, y, x, row, scratch)
                if within:
                    usual[:] = row
                    known = True
            coarse[:, y + 1, x + 1] = row
            found[y + 1, x + 1] = 1
            inner_found[y + 1, x + 1] = within


@helper
def surrounded(unknown: Floats, inner: Flags) -> None:
    """Write which cells of the finest grid are unknown with all their neighbors; none at the photo's border is."""
    inner[:] = False
    for y in range(2, unknown.shape[0] - 4):
        for x in range(2, unknown.shape[1] - 4):
            around = 0.0
            for place in range(9):
                around += unknown[y - 1 + place // 3, x - 1 + place % 3]
            inner[y, x] = around == 9


@helper
def apply_fine(unknown: Floats, diagonal: Floats, values: Floats, out: Floats) -> None:
    """Write A ``values`` into ``out`` on the finest grid."""
    for channel in range(3):
        for y in range(1, unknown.shape[0] - 3):
            above, here, below = values[channel, y - 1], values[channel, y], values[channel, y + 1]
            to, there, weight = out[channel, y], unknown[y], diagonal[y]
            for x in range(1, unknown.shape[1] - 3):
                sides = above[x] + below[x] + here[x - 1] + here[x + 1]
                corners = above[x - 1] + above[x + 1] + below[x - 1] + below[x + 1]
                to[x] = weight[x] * here[x] - there[x] * ((2 * sides + corners) * (1 / 12))


@helper
def apply_coarse(operator: Floats, values: Floats, out: Floats) -> None:
    """Write A ``values`` into ``out``."""
    for channel in range(3):
        for y in range(1, operator.shape[1] - 3):
            above, here, below = values[channel, y - 1], values[channel, y], values[channel, y + 1]
            a, to = operator[:, y], out[channel, y]
            for x in range(1, operator.shape[2] - 3):
                first = a[0, x] * above[x - 1] + a[1, x] * above[x] + a[2, x] * above[x + 1]
                second = a[3, x] * here[x - 1] + a[4, x] * here[x] + a[5, x] * here[x + 1]
                third = a[6, x] * below[x - 1] + a[7, x] * below[x] + a[8, x] * below[x + 1]
                to[x] = first + second + third


@helper
def restrict(fine: Floats, coarse: Floats) -> None:
    """Write P^T ``fine`` into ``coarse``."""
    for channel in range(3):
        for y in range(1, coarse.shape[1] - 3):
            above, here, below = fine[channel, 2 * y - 2], fine[channel, 2 * y - 1], fine[channel, 2 * y]
            to = coarse[channel, y]
            for x in range(1, coarse.shape[2] - 3):
                u = 2 * x - 1
                sides = above[u] + below[u] + here[u - 1] + here[u + 1]
                corners = above[u - 1] + above[u + 1] + below[u - 1] + below[u + 1]
                to[x] = here[u] + 0.5 * sides + 0.25 * corners


@helper
def prolong(coarse: Floats, unknown: Floats, fine: Floats) -> None:
    """Add P ``coarse`` to ``fine``, where ``unknown``."""
    for channel in range(3):
        for y in range(unknown.shape[0] - 4):
            first, second = coarse[channel, y // 2 + 1], coarse[channel, y // 2 + 1 + y % 2]
            to, there = fine[channel, y + 1], unknown[y + 1]
            for x in range(0, unknown.shape[1] - 4, 2):
                c = x // 2 + 1
                left, right = 0.5 * (first[c] + second[c]), 0.5 * (first[c + 1] + second[c + 1])
                to[x + 1] += there[x + 1] * left
                to[x + 2] += there[x + 2] * (0.5 * (left + right))


@helper
def sweep(inverse: Floats, right: Floats, image: Floats, values: Floats, fresh: bool) -> None:
    """Do a Jacobi sweep: add ``inverse`` (``right`` - ``image``) to ``values``, or begin with ``inverse right``."""
    for channel in range(3):
        for y in range(1, inverse.shape[0] - 3):
            from_, what, to, scale = right[channel, y], image[channel, y], values[channel, y], inverse[y]
            if fresh:
                for x in range(1, inverse.shape[1] - 3):
                    to[x] = scale[x] * from_[x]
            else:
                for x in range(1, inverse.shape[1] - 3):
                    to[x] += scale[x] * (from_[x] - what[x])


@helper
def dot(first: Floats, second: Floats) -> Floats:
    """Return the channels' inner products [3]."""
    a = b = c = 0.0
    for y in range(first.shape[1]):
        for x in range(first.shape[2]):
            a += first[0, y, x] * second[0, y, x]
            b += first[1, y, x] * second[1, y, x]
            c += first[2, y, x] * second[2, y, x]
    return np.array([a, b, c])


@helper
def add(values: Floats, factor: Floats, other: Floats, scale: Floats) -> None:
    """Write ``factor`` ``values`` + ``scale`` ``other`` into ``values``; factors [3] are the channels'."""
    for channel in range(3):
        for y in range(values.shape[1]):
            to, what = values[channel, y], other[channel, y]
            for x in range(values.shape[2]):
                to[x] = factor[channel] * to[x] + scale[channel] * what[x]


@helper
def ratio(above: Floats, below: Floats) -> Floats:
    """Return ``above`` / ``below``, 0 where nothing is left to do."""
    found = np.zeros(3)
    for channel in range(3):
        if below[channel] > 0:
            found[channel] = above[channel] / below[channel]
    return found


@helper
def apply(operators: list[Floats], unknown: Floats, diagonal: Floats, level: int, values: Floats, out: Floats) -> None:
    """Write A ``values`` into ``out`` on grid number ``level``."""
    if level == 0:
        apply_fine(unknown, diagonal, values, out)
    else:
        apply_coarse(operators[level], values, out)


@helper
def precondition(
    operators: list[Floats],
    unknowns: list[Floats],
    inverses: list[Floats],
    diagonal: Floats,
    rights: list[Floats],
    values: list[Floats],
    scratch: list[Floats],
) -> None:
    """Do one V-cycle from zero, a symmetric operator: ``values``[0] comes near A^-1 ``rights``[0]."""
    last = len(operators) - 1
    for level in range(last + 1):
        sweep(inverses[level], rights[level], scratch[level], values[level], True)
        if level < last:
            apply(operators, unknowns[0], diagonal, level, values[level], scratch[level])
            add(scratch[level], -np.ones(3), rights[level], np.ones(3))
            restrict(scratch[level], rights[level + 1])
    for level in range(last, -1, -1):
        if level < last:
            prolong(values[level + 1], unknowns[level], values[level])
        for _ in range(1 if level < last else 12):
            apply(operators, unknowns[0], diagonal, level, values[level], scratch[level])
            sweep(inverses[level], rights[level], scratch[level], values[level], False)


def _fill(photo: Floats, removed: NDArray[np.bool_], tolerance: float, iterations: int) -> tuple[Floats, int]:
    shapes = [(removed.shape[1] + 4, removed.shape[2] + 4)]
    while min(shapes[-1]) - 4 > COARSEST:
        shapes.append(((shapes[-1][0] - 4) // 2 + 5, (shapes[-1][1] - 4) // 2 + 5))
    operators = [np.zeros((9, each[0], each[1])) for each in shapes]
    unknowns = [np.zeros(each) for each in shapes]
    inverses = [np.zeros(each) for each in shapes]
    inner = [np.zeros(each, np.bool_) for each in shapes]
    rights = [np.zeros((3, each[0], each[1])) for each in shapes]
    values = [np.zeros((3, each[0], each[1])) for each in shapes]
    scratch = [np.zeros((3, each[0], each[1])) for each in shapes]
    operators[0] = np.zeros((0, 0, 0))
    diagonal = np.zeros(shapes[0])
    found, direction, image = np.zeros_like(rights[0]), np.zeros_like(rights[0]), np.zeros_like(rights[0])
    filled = np.empty((removed.shape[0], 3, removed.shape[1], removed.shape[2]))
    most = 0
    for number in range(removed.shape[0]):
        laplacian(photo, removed[number], unknowns[0], diagonal, rights[0])
        surrounded(unknowns[0], inner[0])
        for level in range(len(shapes)):
            if level > 0:
                coarsen(
                    operators[level - 1],
                    unknowns[level - 1],
                    diagonal,
                    inner[level - 1],
                    operators[level],
                    unknowns[level],
                    inner[level],
                )
            inverse, there = inverses[level], unknowns[level]
            for y in range(there.shape[0]):
                for x in range(there.shape[1]):
                    inverse[y, x] = 0
                    if there[y, x] != 0:
                        inverse[y, x] = 1 / diagonal[y, x] if level == 0 else DAMPING / operators[level][4, y, x]
        found[:] = 0
        direction[:] = 0
        before = first = np.zeros(3)
        for step in range(iterations):
            precondition(operators, unknowns, inverses, diagonal, rights, values, scratch)
            left = dot(rights[0], values[0])
            if step == 0:
                first = left
            if np.all(left <= tolerance * tolerance * first):
                break
            add(direction, ratio(left, before), values[0], np.ones(3))
            before = left
            apply_fine(unknowns[0], diagonal, direction, image)
            length = ratio(left, dot(direction, image))
            add(found, np.ones(3), direction, length)
            add(rights[0], np.ones(3), image, -length)
            most = max(most, step + 1)
        for channel in range(3):
            for y in range(removed.shape[1]):
                for x in range(removed.shape[2]):
                    gone = removed[number, y, x]
                    filled[number, channel, y, x] = found[channel, y + 1, x + 1] if gone else photo[channel, y, x]
    return filled, most


@cache
def compiled() -> Callable[[Floats, Flags, float, int], tuple[Floats, int]]:
    """Return the kernel: (photo [3, H, W], removed [S, H, W], tolerance, iterations) -> (filled, most iterations)."""
    signature = "Tuple((f8[:, :, :, ::1], i8))(f8[:, :, ::1], b1[:, :, ::1], f8, i8)"
    return kernel(_fill, signature, "ROAD's imputation, some twenty seconds")


def fill_linearly(photo: NDArray[np.floating], removed: Flags) -> Floats:
    """Return ``photo`` [3, H, W] with each of the masks ``removed`` [S, H, W] filled, new in float64 [S, 3, H, W].

    Filled values lie between the least and the largest kept value of their channel, up to 1e-4 of their range. Raises
    `ValueError` where no pixel is kept, or for other shapes.
    """
    if removed.ndim != 3 or photo.shape != (3, *removed.shape[1:]):
        raise ValueError(f"expected a photo [3, H, W] and masks [S, H, W]; got {photo.shape} and {removed.shape}")
    if removed.all((1, 2)).any():
        raise ValueError("all pixels are removed: there is nothing to fill them from")
    values = np.ascontiguousarray(photo, dtype=np.float64)
    return compiled()(values, np.ascontiguousarray(removed, dtype=np.bool_), TOLERANCE, ITERATIONS)[0]
