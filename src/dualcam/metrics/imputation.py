"""Filling removed pixels so that each is the weighted mean of its eight neighbors, as ROAD does, and its noise.

Rong et al., ICML 2022, section 4.2: side neighbors weigh 1/6, corner neighbors 1/12; at the photo's border the weights
of those there are grown to one. The removed pixels' equations are a graph Laplacian A with the kept pixels as its
boundary: symmetric and positive definite. They are solved by conjugate gradients, preconditioned by one multigrid
V-cycle: bilinear interpolation, and Jacobi sweeps, which for this very stencil shrink all that is rough to a third.
Coarse operators only have to resemble A, and so are no matrices: with W the stencil of the weights, a grid's operator
is D - M W M, where M is the share of each cell that is removed, and D = M W M 1 + C; C, what a cell is tied to kept
pixels by, is the finer grid's, summed up. On the finest grid M is 0 or 1, and this is A.

All is float32: noise is a hundredth of the range, and the fill need be right to a tenth of that. A grid is a flat
array; around it, and between its rows, are cells of which nothing is removed, so that no loop asks where it is and each
is one long run. Channels are solved one after the other, on the removed pixels' bounding box: it fits the cache.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from dualcam.metrics.compiled import kernel, relaxed

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]
Integers = NDArray[np.int64]
TOLERANCE = 2e-3
"""The largest correction that is the last one, as a share of how far kept values lie from their mean."""
ITERATIONS = 40
COARSEST = 4
POSITIVE = np.int32(0x7FFFFFFF)
LAST_SWEEPS = 8
SHARE, FLOW, DIAGONAL, INVERSE, LEFT, CHANGE, SCRATCH, FOUND, DIRECTION, IMAGE = range(10)
"""Planes of the workspace: M, C, D, 1 / D, the residual, the preconditioned one, and conjugate gradients' others."""
SIDE, HALF, QUARTER, TWELFTH, BOUND, TINY = (np.float32(value) for value in (2, 1 / 2, 1 / 4, 1 / 12, 0.4, 1e-4))


@relaxed
def around(above: Floats, here: Floats, below: Floats, j: int) -> np.float32:
    """Return the weighted sum of the eight neighbors of cell ``j``; the rows begin one cell before it."""
    corners = above[j] + above[j + 2] + below[j] + below[j + 2]
    sides = above[j + 1] + below[j + 1] + here[j] + here[j + 2]
    return np.float32(TWELFTH * (corners + SIDE * sides))


@relaxed
def rows(values: Floats, start: int, stop: int, step: int) -> tuple[Floats, Floats, Floats]:
    """Return the cells above, at and below ``start``:``stop``, with one more at either end."""
    return (
        values[start - step - 1 : stop - step + 1],
        values[start - 1 : stop + 1],
        values[start + step - 1 : stop + step + 1],
    )


@relaxed
def couple(values: Floats, share: Floats, out: Floats, start: int, stop: int, step: int) -> None:
    """Write M W ``values`` into ``out``."""
    above, here, below = rows(values, start, stop, step)
    to, m = out[start:stop], share[start:stop]
    for j in range(stop - start):
        to[j] = m[j] * around(above, here, below, j)


@relaxed
def sweep(
    values: Floats, share: Floats, inverse: Floats, right: Floats, out: Floats, start: int, stop: int, step: int
) -> np.float32:
    """Write the next Jacobi iterate, (``right`` + M W ``values``) / D, into ``out``; return its product with ``right``.

    ``values`` are M times the last iterate.
    """
    above, here, below = rows(values, start, stop, step)
    to, m, scale, wanted = out[start:stop], share[start:stop], inverse[start:stop], right[start:stop]
    total = np.float32(0)
    for j in range(stop - start):
        value = scale[j] * (wanted[j] + m[j] * around(above, here, below, j))
        to[j] = value
        total += value * wanted[j]
    return total


@relaxed
def apply(values: Floats, share: Floats, diagonal: Floats, out: Floats, start: int, stop: int, step: int) -> np.float32:
    """Write A ``values`` into ``out``; return their product."""
    above, here, below = rows(values, start, stop, step)
    to, m, d = out[start:stop], share[start:stop], diagonal[start:stop]
    total = np.float32(0)
    for j in range(stop - start):
        value = d[j] * here[j + 1] - m[j] * around(above, here, below, j)
        to[j] = value
        total += value * here[j + 1]
    return total


@relaxed
def multiply(first: Floats, second: Floats, out: Floats) -> None:
    """Write ``first`` ``second`` into ``out``."""
    for j in range(len(out)):
        out[j] = first[j] * second[j]


@relaxed
def add(values: Floats, factor: np.float32, other: Floats, scale: np.float32) -> None:
    """Write ``factor`` ``values`` + ``scale`` ``other`` into ``values``."""
    for j in range(len(values)):
        values[j] = factor * values[j] + scale * other[j]


@relaxed
def largest(values: Floats) -> np.float32:
    """Return the largest absolute value; bits of numbers that are not negative are in the numbers' order."""
    bits, found = values.view(np.int32), np.zeros(1, np.int32)
    most = found[0]
    for j in range(len(bits)):
        size = bits[j] & POSITIVE
        most = size if size > most else most
    found[0] = most
    return np.float32(found.view(np.float32)[0])


@relaxed
def total(values: Floats) -> np.float32:
    """Return the sum."""
    found = np.float32(0)
    for j in range(len(values)):
        found += values[j]
    return found


@relaxed
def restrict(
    fine: Floats, coarse: Floats, step: int, height: int, width: int, factor: np.float32, line: Floats
) -> None:
    """Write ``factor`` P^T ``fine`` into ``coarse`` of ``height`` x ``width``; P is bilinear."""
    for y in range(height):
        here = (2 * y + 1) * step
        above, middle, below = fine[here - step : here], fine[here : here + step], fine[here + step : here + 2 * step]
        for x in range(step):
            line[x] = factor * (HALF * (above[x] + below[x]) + middle[x])
        line[step] = 0
        first = (y + 1) * (width + 2) + 1
        to = coarse[first : first + width]
        for x in range(width):
            to[x] = HALF * (line[2 * x] + line[2 * x + 2]) + line[2 * x + 1]


@relaxed
def stretch(coarse: Floats, y: int, step: int, line: Floats) -> None:
    """Write row ``y`` of ``coarse`` into ``line``, with the means of neighbors between."""
    first = (y + 1) * step + 1
    from_ = coarse[first : first + step - 1]
    for x in range(step - 2):
        line[2 * x] = from_[x]
        line[2 * x + 1] = HALF * (from_[x] + from_[x + 1])


@relaxed
def prolong(
    coarse: Floats, share: Floats, fine: Floats, step: int, height: int, width: int, upper: Floats, lower: Floats
) -> None:
    """Add P ``coarse`` to ``fine`` of ``height`` x ``width``, where something is removed."""
    stretch(coarse, 0, step, lower)
    for y in range(height):
        first = (y + 1) * (width + 2) + 1
        to, m = fine[first : first + width], share[first : first + width]
        if y % 2 == 0:
            upper, lower = lower, upper
            stretch(coarse, y // 2 + 1, step, lower)
            for x in range(width):
                to[x] += upper[x] if m[x] > 0 else np.float32(0)
        else:
            for x in range(width):
                to[x] += HALF * (upper[x] + lower[x]) if m[x] > 0 else np.float32(0)


@relaxed
def planes_of(space: Floats, grids: Integers, level: int) -> Floats:
    """Return a grid's planes."""
    cells = grids[level, 2]
    return space[grids[level, 3] : grids[level, 3] + 10 * cells].reshape(10, cells)


@relaxed
def coarsen(space: Floats, grids: Integers, lines: Floats) -> None:
    """Make all grids' operators; the finest has its M and C."""
    for level in range(len(grids)):
        height, width = grids[level, :2]
        planes, step = planes_of(space, grids, level), width + 2
        start, stop = step + 1, (height + 1) * step
        if level > 0:
            finer, apart = planes_of(space, grids, level - 1), grids[level - 1, 1] + 2
            restrict(finer[SHARE], planes[SHARE], apart, height, width, QUARTER, lines[0])
            restrict(finer[FLOW], planes[FLOW], apart, height, width, np.float32(1), lines[0])
        couple(planes[SHARE], planes[SHARE], planes[DIAGONAL], start, stop, step)
        m, flow = planes[SHARE][start:stop], planes[FLOW][start:stop]
        diagonal, inverse = planes[DIAGONAL][start:stop], planes[INVERSE][start:stop]
        for j in range(stop - start):
            diagonal[j] += flow[j]
            # W has no eigenvalue below -1/3: with this bound Jacobi sweeps shrink all errors
            bound = max(diagonal[j], BOUND * m[j] * m[j])
            inverse[j] = np.float32(1) / bound if bound > 0 else np.float32(0)


@relaxed
def advance(share: Floats, later: Floats, values: Floats, moved: Floats) -> None:
    """Write M (``later`` - ``values``) into ``moved``, and ``later`` into ``values``."""
    for j in range(len(values)):
        moved[j] = share[j] * (later[j] - values[j])
        values[j] = later[j]


@relaxed
def relax(planes: Floats, start: int, stop: int, step: int, times: int) -> None:
    """Do Jacobi sweeps."""
    share, scratch, change = planes[SHARE], planes[SCRATCH], planes[CHANGE]
    for _ in range(times):
        multiply(share[start:stop], change[start:stop], scratch[start:stop])
        sweep(scratch, share, planes[INVERSE], planes[LEFT], change, start, stop, step)


@relaxed
def descend(planes: Floats, start: int, stop: int, step: int, finest: bool) -> None:
    """Do the first sweeps from zero, one or two, and write what they leave of the residual into `IMAGE` or `SCRATCH`.

    What a sweep leaves is what its change does to the neighbors: M W M (this iterate - the one before).
    """
    share, scratch, change, image = planes[SHARE], planes[SCRATCH], planes[CHANGE], planes[IMAGE]
    multiply(planes[INVERSE][start:stop], planes[LEFT][start:stop], change[start:stop])
    if finest:
        couple(change, share, scratch, start, stop, step)
    else:
        multiply(share[start:stop], change[start:stop], scratch[start:stop])
        sweep(scratch, share, planes[INVERSE], planes[LEFT], image, start, stop, step)
        advance(share[start:stop], image[start:stop], change[start:stop], scratch[start:stop])
        couple(scratch, share, image, start, stop, step)


@relaxed
def precondition(space: Floats, grids: Integers, lines: Floats) -> np.float32:
    """Do one V-cycle from zero, a symmetric operator: `SCRATCH` of the finest grid comes near A^-1 `LEFT`.

    Returns their product.
    """
    last = len(grids) - 1
    for level in range(last):
        height, width = grids[level, :2]
        planes, step = planes_of(space, grids, level), width + 2
        descend(planes, step + 1, (height + 1) * step, step, level == 0)
        height, width = grids[level + 1, :2]
        rest, coarse = planes[IMAGE if level else SCRATCH], planes_of(space, grids, level + 1)
        restrict(rest, coarse[LEFT], step, height, width, np.float32(1), lines[0])
    height, width = grids[last, :2]
    planes, step = planes_of(space, grids, last), width + 2
    planes[CHANGE][:] = 0
    relax(planes, step + 1, (height + 1) * step, step, LAST_SWEEPS)
    for level in range(last - 1, -1, -1):
        coarse, apart = planes, step
        height, width = grids[level, :2]
        planes, step = planes_of(space, grids, level), width + 2
        prolong(coarse[CHANGE], planes[SHARE], planes[CHANGE], apart, height, width, lines[0], lines[1])
        if level > 0:
            relax(planes, step + 1, (height + 1) * step, step, 2)
    change, out = planes[CHANGE], planes[SCRATCH]
    return sweep(change, planes[SHARE], planes[INVERSE], planes[LEFT], out, step + 1, (height + 1) * step, step)


@relaxed
def solve(space: Floats, grids: Integers, lines: Floats, limit: np.float32, iterations: int) -> int:
    """Write A^-1 `LEFT` into `FOUND`, and return the number of V-cycles."""
    height, width = grids[0, :2]
    planes, step = planes_of(space, grids, 0), width + 2
    start, stop = step + 1, (height + 1) * step
    found, direction, image = planes[FOUND], planes[DIRECTION], planes[IMAGE]
    found[:] = 0
    direction[:] = 0
    before = np.float32(0)
    for cycle in range(1, iterations + 1):
        left = precondition(space, grids, lines)
        change = planes[SCRATCH][start:stop]
        if largest(change) <= limit or cycle == iterations:
            add(found[start:stop], np.float32(1), change, np.float32(1))
            return cycle
        again = left / before if cycle > 1 else np.float32(0)
        add(direction[start:stop], again, change, np.float32(1))
        before = left
        length = left / apply(direction, planes[SHARE], planes[DIAGONAL], image, start, stop, step)
        add(found[start:stop], np.float32(1), direction[start:stop], length)
        add(planes[LEFT][start:stop], np.float32(1), image[start:stop], -length)
    return iterations


@relaxed
def box(removed: Flags) -> tuple[int, int, int, int]:
    """Return top, bottom, left and right of the removed pixels with a margin of one; all 0 where there are none."""
    height, width = removed.shape
    top, bottom, left, right = height, 0, width, 0
    for y in range(height):
        x = 0
        while x < width and not removed[y, x]:
            x += 1
        if x == width:
            continue
        top, bottom, left = min(top, y), y + 1, min(left, x)
        x = width
        while x > right and not removed[y, x - 1]:
            x -= 1
        right = x
    if bottom == 0:
        return 0, 0, 0, 0
    return max(top - 1, 0), min(bottom + 1, height), max(left - 1, 0), min(right + 1, width)


@relaxed
def layout(height: int, width: int) -> Integers:
    """Return the grids [L, (height, width, cells of a plane, begin)], at least two."""
    grids = np.zeros((64, 4), np.int64)
    begin = count = 0
    while True:
        cells = (height + 3) * (width + 2) + 1
        grids[count, 0], grids[count, 1], grids[count, 2], grids[count, 3] = height, width, cells, begin
        count += 1
        if count > 1 and max(height, width) <= COARSEST:
            return grids[:count]
        height, width, begin = height // 2 + 1, width // 2 + 1, begin + 10 * cells


@relaxed
def clear(space: Floats, grids: Integers) -> None:
    """Write zeros around the grids' cells."""
    for level in range(len(grids)):
        height, width = grids[level, :2]
        step = width + 2
        for plane in planes_of(space, grids, level):
            plane[: step + 1] = 0
            plane[(height + 1) * step :] = 0
            for y in range(1, height + 1):
                plane[(y + 1) * step - 1 : (y + 1) * step + 1] = 0


@relaxed
def begin_mask(removed: Flags, top: int, bottom: int, left: int, right: int, planes: Floats) -> None:
    """Write the finest grid's M and C."""
    height, width = bottom - top, right - left
    step = width + 2
    share, flow, kept = planes[SHARE], planes[FLOW], planes[SCRATCH]
    for y in range(height):
        first = (y + 1) * step + 1
        m, one = share[first : first + width], kept[first : first + width]
        gone = removed[top + y, left:right]
        for x in range(width):
            m[x] = np.float32(gone[x])
            one[x] = np.float32(1) - m[x]
    couple(kept, share, flow, step + 1, (height + 1) * step, step)


@relaxed
def begin_channel(
    photo: Floats, top: int, bottom: int, left: int, right: int, planes: Floats
) -> tuple[np.float32, np.float32]:
    """Write one channel's right side into `LEFT`.

    Return the mean that it is relative to, and how far from their mean kept values are.
    """
    height, width = bottom - top, right - left
    step = width + 2
    start, stop = step + 1, (height + 1) * step
    share, kept, wanted, flow = planes[SHARE], planes[IMAGE], planes[LEFT], planes[FLOW]
    for y in range(height):
        first = (y + 1) * step + 1
        to, m, from_ = kept[first : first + width], share[first : first + width], photo[top + y, left:right]
        for x in range(width):
            to[x] = from_[x] * (np.float32(1) - m[x])
    anchor = total(kept[start:stop]) / (np.float32(height * width) - total(share[start:stop]))
    for y in range(height):
        first = (y + 1) * step + 1
        to, m = kept[first : first + width], share[first : first + width]
        for x in range(width):
            to[x] -= anchor * (np.float32(1) - m[x])
    couple(kept, share, wanted, start, stop, step)
    mean = total(wanted[start:stop]) / total(flow[start:stop])
    add(wanted[start:stop], np.float32(1), flow[start:stop], -mean)
    return anchor + mean, largest(kept[start:stop]) + TINY * abs(anchor)


def _fill(photo: Floats, removed: Flags, noise: Floats, tolerance: float, iterations: int) -> tuple[Floats, int]:
    count, height, width = removed.shape
    whole = layout(height, width)
    space = np.empty(whole[-1, 3] + 10 * whole[-1, 2], np.float32)
    lines = np.zeros((2, 2 * width + 8), np.float32)
    filled = np.empty((count, 3, height, width), np.float32)
    most = 0
    for number in range(count):
        filled[number] = photo
        top, bottom, left, right = box(removed[number])
        if bottom == 0:
            continue
        grids = layout(bottom - top, right - left)
        clear(space, grids)
        planes, step = planes_of(space, grids, 0), right - left + 2
        begin_mask(removed[number], top, bottom, left, right, planes)
        coarsen(space, grids, lines)
        for channel in range(3):
            mean, spread = begin_channel(photo[channel], top, bottom, left, right, planes)
            most = max(most, solve(space, grids, lines, np.float32(tolerance) * spread, iterations))
            for y in range(bottom - top):
                first = (y + 1) * step + 1
                to, found = filled[number, channel, top + y, left:right], planes[FOUND][first : first + step - 2]
                more, gone = noise[channel, top + y, left:right], removed[number, top + y, left:right]
                for x in range(right - left):
                    to[x] = found[x] + mean + more[x] if gone[x] else to[x]
    return filled, most


@cache
def compiled() -> Callable[[Floats, Flags, Floats, float, int], tuple[Floats, int]]:
    """Return the kernel: (photo [3, H, W], removed [S, H, W], noise, tolerance, iterations) -> (filled, V-cycles)."""
    signature = "Tuple((f4[:, :, :, ::1], i8))(f4[:, :, ::1], b1[:, :, ::1], f4[:, :, ::1], f8, i8)"
    return kernel(_fill, signature, "ROAD's imputation, some twenty seconds")


def fill_linearly(
    photo: NDArray[np.floating], removed: Flags, noise: NDArray[np.floating] | None = None
) -> NDArray[np.floating]:
    """Return ``photo`` [3, H, W] with each of the masks ``removed`` [S, H, W] filled, new, [S, 3, H, W].

    Kept values are the photo's, of its type; filled ones are right to 2e-3 of the kept values' range, mostly to 5e-4.
    ``noise`` [3, H, W] is added to them. Raises `ValueError` where no pixel is kept, or for other shapes.
    """
    if removed.ndim != 3 or photo.shape != (3, *removed.shape[1:]):
        raise ValueError(f"expected a photo [3, H, W] and masks [S, H, W]; got {photo.shape} and {removed.shape}")
    if removed.all((1, 2)).any():
        raise ValueError("all pixels are removed: there is nothing to fill them from")
    flags, values = np.ascontiguousarray(removed, dtype=np.bool_), np.ascontiguousarray(photo, dtype=np.float32)
    more = np.zeros_like(values) if noise is None else np.ascontiguousarray(noise, dtype=np.float32)
    filled, _ = compiled()(values, flags, more, TOLERANCE, ITERATIONS)
    return filled if photo.dtype == np.float32 else np.where(flags[:, None], filled, photo)
