"""Boxes and areas of the connected components of one map at every cut, from a few hundred row basins.

A row falls apart at its local minima into basins of one peak each. Above any cut a basin is one run of pixels, so the
components are those of the graph of basins: neighbors in a row are joined at the pixel between them, basins of adjacent
rows at the highest of their contacts. Kruskal's algorithm over these edges, highest first, gives the component tree. A
component's rows are those of its basins. Its columns change at maxima along columns only: any other pixel has a
vertical neighbor in the same component that is at least as high.

Levels are ranks, 0 to ``cuts``: a pixel is foreground at cut c where its level > c.
"""

import numpy as np
from numpy.typing import NDArray

from dualcam.metrics.compiled import helper, kernel

Levels = NDArray[np.uint16]
Ints = NDArray[np.int32]
Floats = NDArray[np.float64]


@helper
def row_basins(levels: Levels) -> tuple[Ints, Ints]:
    """Return the first column of each basin, in reading order, and where each row's basins begin [H + 1]."""
    height, width = levels.shape
    start = np.empty(height * (width // 2 + 1), np.int32)
    offset = np.empty(height + 1, np.int32)
    count = 0
    for y in range(height):
        row = levels[y]
        offset[y] = count
        start[count] = 0
        count += 1
        falling = False
        before = row[0]
        for x in range(1, width):
            here = row[x]
            start[count] = x  # kept where a valley ends here
            count += falling and here > before
            falling = (here < before) or (falling and here == before)
            before = here
    offset[height] = count
    return start[:count], offset


@helper
def highest_contact(upper: Levels, lower: Levels, first: int, last: int, shift: int) -> int:
    """Return the maximum of min(upper[x], lower[x + shift]) over ``first`` <= x < ``last``; 0 where there is none."""
    found = np.uint16(0)
    if last > first:
        a, b = upper[first:last], lower[first + shift : last + shift]
        for i in range(len(a)):
            found = max(found, min(a[i], b[i]))
    return int(found)


@helper
def edges(levels: Levels, start: Ints, offset: Ints, diagonal: bool) -> tuple[Ints, Ints, Ints]:
    """Return level and both basins of every edge above level 0; ``diagonal``: 8- instead of 4-connected."""
    height, width = levels.shape
    found = np.empty((3, 3 * len(start)), np.int32)
    count = 0
    for y in range(height):
        for i in range(offset[y] + 1, offset[y + 1]):
            found[0, count], found[1, count], found[2, count] = levels[y, start[i] - 1], i - 1, i
            count += found[0, count] > 0
        if y + 1 == height:
            break
        upper, lower = levels[y], levels[y + 1]
        i, j = offset[y], offset[y + 1]
        while True:
            p, r = start[i], start[j]
            q = start[i + 1] if i + 1 < offset[y + 1] else width
            s = start[j + 1] if j + 1 < offset[y + 2] else width
            level = highest_contact(upper, lower, max(p, r), min(q, s), 0)
            if diagonal:
                level = max(level, highest_contact(upper, lower, max(p, r - 1), min(q, s - 1), 1))
                level = max(level, highest_contact(upper, lower, max(p, r + 1), min(q, s + 1), -1))
            found[0, count], found[1, count], found[2, count] = level, i, j
            count += level > 0
            if q == width and s == width:
                break
            if q == s and diagonal:  # of two crossing contacts the lower one joins nothing new
                fall = min(upper[q - 1], lower[q])
                rise = min(upper[q], lower[q - 1])
                if fall >= rise:
                    found[0, count], found[1, count], found[2, count] = fall, i, j + 1
                else:
                    found[0, count], found[1, count], found[2, count] = rise, i + 1, j
                count += found[0, count] > 0
            i += q <= s
            j += s <= q
    return found[0, :count], found[1, :count], found[2, :count]


@helper
def column_peaks(levels: Levels, start: Ints, offset: Ints) -> tuple[Ints, Ints, Ints]:
    """Return level, basin and column of every maximum along a column (one pixel of a plateau)."""
    height, width = levels.shape
    found = np.empty((3, width * (height // 2 + 1)), np.int32)
    count = 0
    words = (width + 7) // 8
    ends = np.zeros(8 * words, np.uint8)
    packed = ends.view(np.uint64)
    rising = np.ones(width, np.uint8)
    for y in range(height):
        row = levels[y]
        if y + 1 < height:
            below = levels[y + 1]
            for x in range(width):
                falls = np.uint8(below[x] < row[x])
                ends[x] = falls & rising[x]
                rising[x] = np.uint8(below[x] > row[x]) | (rising[x] & (falls ^ np.uint8(1)))
        else:
            ends[:width] = rising
        basin = offset[y]
        for word in range(words):
            if packed[word]:
                for x in range(8 * word, min(8 * word + 8, width)):
                    if ends[x] and row[x]:
                        while basin + 1 < offset[y + 1] and start[basin + 1] <= x:
                            basin += 1
                        found[0, count], found[1, count], found[2, count] = row[x], basin, x
                        count += 1
    return found[0, :count], found[1, :count], found[2, :count]


@helper
def by_level(level: Ints, top: int) -> Ints:
    """Return the positions that sort ``level`` downwards, equals in their order; all are in 0 to ``top``."""
    place = np.zeros(top + 2, np.int32)
    for value in level:
        place[top - value + 1] += 1
    place = np.cumsum(place).astype(np.int32)
    order = np.empty(len(level), np.int32)
    for i in range(len(level)):
        slot = top - level[i]
        order[place[slot]] = i
        place[slot] += 1
    return order


@helper
def root_of(parent: Ints, node: int) -> int:
    """Return the root of ``node`` and halve the path to it."""
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node


@helper
def grow(levels: Levels, top: int, diagonal: bool) -> tuple[Ints, Ints, Ints, Ints, Ints]:
    """Return all the boxes that the components ever have, and who joined whom.

    States [S, 8]: component, its first basin in reading order, the lowest and the highest cut of this box (empty where
    low > high), and the box: first column, first row, last column, last row. Merges [M, 3]: level, component that
    stays (the higher one), component that ends. Then each basin's first column, the rows' ``offset`` and the level at
    which each basin appears, which is its number as a component too.
    """
    start, offset = row_basins(levels)
    edge_level, left, right = edges(levels, start, offset, diagonal)
    peak_level, basin, column = column_peaks(levels, start, offset)
    nodes, joints = len(start), len(edge_level)
    level = np.concatenate((edge_level, peak_level))
    order = by_level(level, top)
    born = np.empty(nodes, np.int32)
    box = np.empty((nodes, 4), np.int32)
    for y in range(len(levels)):
        for i in range(offset[y], offset[y + 1]):
            end = start[i + 1] if i + 1 < offset[y + 1] else levels.shape[1]
            born[i] = highest_contact(levels[y], levels[y], start[i], end, 0)
            box[i, 0], box[i, 1], box[i, 2], box[i, 3] = levels.shape[1], y, -1, y
    parent = np.arange(nodes).astype(np.int32)
    first = parent.copy()
    since = born.copy()
    states = np.empty((3 * nodes + len(peak_level), 8), np.int32)
    merges = np.empty((nodes, 3), np.int32)
    count = merged = 0
    for item in order:
        now = level[item]
        if item < joints:
            a, b = root_of(parent, left[item]), root_of(parent, right[item])
            if a == b:
                continue
            if born[a] < born[b] or (born[a] == born[b] and a > b):
                a, b = b, a
            merges[merged, 0], merges[merged, 1], merges[merged, 2] = now, a, b
            merged += 1
            parent[b] = a
            count = record(states, count, b, first[b], since, now, box)
            x0, y0, x1, y1, head = box[b, 0], box[b, 1], box[b, 2], box[b, 3], first[b]
            since[b] = 0
        else:
            a = root_of(parent, basin[item - joints])
            x0, y0, x1, y1, head = column[item - joints], box[a, 1], column[item - joints], box[a, 3], first[a]
        if x0 < box[a, 0] or y0 < box[a, 1] or x1 > box[a, 2] or y1 > box[a, 3] or head < first[a]:
            count = record(states, count, a, first[a], since, now, box)
            box[a, 0], box[a, 1] = min(x0, box[a, 0]), min(y0, box[a, 1])
            box[a, 2], box[a, 3] = max(x1, box[a, 2]), max(y1, box[a, 3])
            first[a] = min(head, first[a])
            since[a] = now
    for a in range(nodes):
        count = record(states, count, a, first[a], since, 0, box)
    return states[:count], merges[:merged], start, offset, born


@helper
def record(states: Ints, count: int, component: int, first: int, since: Ints, now: int, box: Ints) -> int:
    """Store the component's box with the cuts ``now`` to ``since`` - 1 if there are any; return the new count."""
    if since[component] > now:
        states[count, 0], states[count, 1] = component, first
        states[count, 2], states[count, 3] = now, since[component] - 1
        states[count, 4:] = box[component]
        count += 1
    return count


@helper
def filled(levels: Levels, cuts: int, merges: Ints, start: Ints, offset: Ints) -> Levels:
    """Return the levels with all holes filled: each pixel's lowest possible maximum on a 4-connected way out.

    The other arguments are the tree of the ringed complement; its basin 0 is the ring.
    """
    height, width = levels.shape
    joined = np.zeros(len(start), np.uint16)
    joined[0] = cuts + 1
    for k in range(len(merges) - 1, -1, -1):
        joined[merges[k, 2]] = merges[k, 0] if merges[k, 1] == 0 else joined[merges[k, 1]]
    found = np.empty((height, width), np.uint16)
    for y in range(height):
        for i in range(offset[y + 1], offset[y + 2]):
            end = start[i + 1] if i + 1 < offset[y + 2] else width + 2
            way = np.uint16(cuts + 1 - joined[i])
            here, there = levels[y, max(start[i] - 1, 0) : end - 1], found[y, max(start[i] - 1, 0) : end - 1]
            for x in range(min(len(here), len(there))):
                there[x] = max(here[x], way)
    return found


@helper
def area_rows(merges: Ints, born: Ints) -> tuple[Ints, int]:
    """Return each component's row in a table of those that live for any cut at all, and the number of rows.

    One that ends at the level where it began shares the row of the one that it joins.
    """
    row = np.full(len(born), -1, np.int32)
    ended = np.zeros(len(born), np.bool_)
    for k in range(len(merges)):
        ended[merges[k, 2]] = True
    rows = 1  # row 0: what is never foreground
    for i in range(len(born)):
        if not ended[i]:
            row[i] = rows if born[i] > 0 else 0
            rows += born[i] > 0
    for k in range(len(merges) - 1, -1, -1):
        level, stays, ends = merges[k]
        if level == born[ends]:
            row[ends] = row[stays]
        else:
            row[ends] = rows
            rows += 1
    return row, rows


@helper
def areas(
    levels: Levels, cuts: int, merges: Ints, start: Ints, offset: Ints, born: Ints
) -> tuple[NDArray[np.int32], Ints]:
    """Return twice the polygon area of each component at cut c in column c + 1, and its row there; without holes only.

    The polygon through the centers of the outer pixels is the union of the unit squares between four foreground pixels
    and of the half squares between three: a square of pixels adds 1/2 at its third highest level and 1/2 at its lowest.
    """
    height, width = levels.shape
    row, rows = area_rows(merges, born)
    table = np.zeros((rows, cuts + 1), np.int32)
    third = np.empty(width, np.uint16)
    fourth = np.empty(width, np.uint16)
    for y in range(height - 1):
        a, b, c, d = levels[y, :-1], levels[y, 1:], levels[y + 1, :-1], levels[y + 1, 1:]
        for x in range(width - 1):
            low, lower = min(a[x], b[x]), min(c[x], d[x])
            fourth[x] = min(low, lower)
            third[x] = min(max(low, lower), max(a[x], b[x]), max(c[x], d[x]))
        for i in range(offset[y], offset[y + 1]):
            end = start[i + 1] if i + 1 < offset[y + 1] else width
            counts = table[row[i]]
            for x in range(max(start[i] - 1, 0), end - 1):
                counts[third[x]] += 1
                counts[fourth[x]] += 1
    for k in range(rows):
        total = 0
        for level in range(cuts, 0, -1):
            total += table[k, level]
            table[k, level] = total
    for k in range(len(merges)):
        level, stays, ends = merges[k]
        if row[ends] != row[stays]:
            table[row[stays], 1 : level + 1] += table[row[ends], 1 : level + 1]
    return table, row


@helper
def overlap(x0: int, y0: int, x1: int, y1: int, truth: Floats, pixel: float) -> tuple[float, float]:
    """Return the best IoU with any box of ``truth`` [G, 4] and that with the first; sides are x1 - x0 + ``pixel``."""
    best = first = 0.0
    area = (x1 - x0 + pixel) * (y1 - y0 + pixel)
    for k in range(len(truth)):
        across = max(0.0, min(float(x1), truth[k, 2]) - max(float(x0), truth[k, 0]) + pixel)
        down = max(0.0, min(float(y1), truth[k, 3]) - max(float(y0), truth[k, 1]) + pixel)
        shared = across * down
        union = area + (truth[k, 2] - truth[k, 0] + pixel) * (truth[k, 3] - truth[k, 1] + pixel) - shared
        found = shared / union if union > 0 else 0.0
        best = max(best, found)
        if k == 0:
            first = found
    return best, first


@helper
def box_of(state: Ints, height: int, width: int, pixel: float) -> tuple[int, int, int, int]:
    """Return a component's box: half-open, and cut off at the last pixel where sides count one more."""
    off = int(pixel)
    return state[4], state[5], min(state[6] + 1, width - off), min(state[7] + 1, height - off)


@helper
def ringed_complement(levels: Levels, cuts: int) -> Levels:
    """Return ``cuts`` + 1 - levels in a ring that is background at every cut."""
    height, width = levels.shape
    found = np.full((height + 2, width + 2), cuts + 1, np.uint16)
    for y in range(height):
        there, here = found[y + 1, 1 : width + 1], levels[y]
        for x in range(width):
            there[x] = cuts + 1 - here[x]
    return found


def curve(levels: Levels, cuts: int, truth: Floats, reference: bool, largest: bool) -> tuple[Floats, Floats, Floats]:
    """Return for each cut [cuts] the best IoU of any box, and of the largest contour's with any box and the first.

    ``levels`` [H, W] are ranks. ``reference``: corners as OpenCV's rectangles give them, sides count one more, and
    holes have boxes too; a component is larger than another of its area where it is later in reading order.
    """
    height, width = levels.shape
    pixel = 1.0 if reference else 0.0
    any_box, main_box, main_first = np.zeros(cuts), np.zeros(cuts), np.zeros(cuts)
    states, merges, start, offset, born = grow(levels, cuts, True)
    for k in range(len(states)):
        x0, y0, x1, y1 = box_of(states[k], height, width, pixel)
        best, _ = overlap(x0, y0, x1, y1, truth, pixel)
        for cut in range(states[k, 2], states[k, 3] + 1):
            any_box[cut] = max(any_box[cut], best)
    if reference or largest:
        outside = ringed_complement(levels, cuts)
        holes, joins, hole_start, hole_offset, _ = grow(outside, cuts + 1, False)
        enclosed = False
        for k in range(len(holes)):
            if holes[k, 0] == 0:
                continue
            enclosed = True
            if reference:  # one pixel more on each side, in the coordinates without the ring
                x1, y1 = min(holes[k, 6] + 1, width - 1), min(holes[k, 7] + 1, height - 1)
                best, _ = overlap(holes[k, 4] - 2, holes[k, 5] - 2, x1, y1, truth, pixel)
                for cut in range(cuts - holes[k, 3], cuts - holes[k, 2] + 1):
                    any_box[cut] = max(any_box[cut], best)
        if enclosed and largest:
            levels = filled(levels, cuts, joins, hole_start, hole_offset)
            states, merges, start, offset, born = grow(levels, cuts, True)
    if largest:
        table, row = areas(levels, cuts, merges, start, offset, born)
        area = np.full(cuts, -1, np.int32)
        head = np.zeros(cuts, np.int32)
        for k in range(len(states)):
            x0, y0, x1, y1 = box_of(states[k], height, width, pixel)
            best, first = overlap(x0, y0, x1, y1, truth, pixel)
            for cut in range(states[k, 2], states[k, 3] + 1):
                mine = table[row[states[k, 0]], cut + 1]
                prior = states[k, 1] > head[cut] if reference else states[k, 1] < head[cut]
                if mine > area[cut] or (mine == area[cut] and prior):
                    area[cut], head[cut] = mine, states[k, 1]
                    main_box[cut], main_first[cut] = best, first
    return any_box, main_box, main_first


run = kernel(curve, "UniTuple(f8[::1], 3)(u2[:, ::1], i8, f8[:, ::1], b1, b1)")
