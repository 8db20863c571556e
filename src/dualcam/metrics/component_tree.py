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
def row_basins(levels: Levels) -> tuple[Ints, Ints, Ints]:
    """Return first column and peak of each basin, in reading order, and where each row's basins begin [H + 1]."""
    height, width = levels.shape
    start = np.empty(height * (width // 2 + 1), np.int32)
    peak = np.empty(height * (width // 2 + 1), np.int32)
    offset = np.empty(height + 1, np.int32)
    count = 0
    for y in range(height):
        row = levels[y]
        offset[y] = count
        start[count] = 0
        falling = False
        before = top = row[0]
        for x in range(1, width):
            here = row[x]
            if falling and here > before:
                peak[count] = top
                count += 1
                start[count] = x
                top = here
            falling = (here < before) or (falling and here == before)
            top = max(top, here)
            before = here
        peak[count] = top
        count += 1
    offset[height] = count
    return start[:count], peak[:count], offset


@helper
def highest(row: Levels, first: int, last: int) -> int:
    """Return the maximum of row[first:last], 0 of nothing."""
    found = np.uint16(0)
    if last - first < 16:
        for x in range(first, last):
            found = max(found, row[x])
    else:
        part = row[first:last]  # counted from 0 the loop becomes vector code
        for i in range(len(part)):
            found = max(found, part[i])
    return int(found)


@helper
def contacts(upper: Levels, lower: Levels, below: Levels, fall: Levels, rise: Levels, joint: Levels) -> None:
    """Fill in the levels at which pixels of two rows meet: in one column, from x down to x + 1, from x up to x + 1.

    ``joint`` is the highest of the three.
    """
    a, b, c, d = upper[:-1], upper[1:], lower[:-1], lower[1:]
    for x in range(len(a)):
        below[x], fall[x], rise[x] = min(a[x], c[x]), min(a[x], d[x]), min(b[x], c[x])
        joint[x] = max(below[x], fall[x], rise[x])
    below[len(a)] = min(upper[-1], lower[-1])


@helper
def edges(levels: Levels, start: Ints, offset: Ints, diagonal: bool) -> tuple[Ints, Ints, Ints]:
    """Return level and both basins of edges above level 0 that join all there is to join.

    ``diagonal``: 8- instead of 4-connected. Two contacts of adjacent rows that follow on another and the edge inside of
    a row that closes their triangle: the lowest of such three, of equals the last, joins nothing new and is left out.
    """
    height, width = levels.shape
    inner = len(start) - height
    room = inner + 2 * len(start)
    level, left, right = np.empty(room, np.int32), np.empty(room, np.int32), np.empty(room, np.int32)
    below, fall = np.zeros(width, np.uint16), np.zeros(width, np.uint16)
    rise, joint = np.zeros(width, np.uint16), np.zeros(width, np.uint16)
    for y in range(height):
        for i in range(offset[y] + 1, offset[y + 1]):
            level[i - y - 1], left[i - y - 1], right[i - y - 1] = levels[y, start[i] - 1], i - 1, i
    needed = np.ones(room, np.uint8)
    count = inner
    for y in range(height - 1):
        contacts(levels[y], levels[y + 1], below, fall, rise, joint)
        if not diagonal:
            joint[:] = below
        i, j = offset[y], offset[y + 1]
        closing = -1
        while True:
            p, r = start[i], start[j]
            q = start[i + 1] if i + 1 < offset[y + 1] else width
            s = start[j + 1] if j + 1 < offset[y + 2] else width
            first, last = max(p, r), min(q, s)
            found = max(highest(joint, first, last - 1), int(below[last - 1]))
            if diagonal:
                if p < r:
                    found = max(found, int(fall[r - 1]))
                elif r < p:
                    found = max(found, int(rise[p - 1]))
                if q < s:
                    found = max(found, int(fall[q - 1]))
                elif s < q:
                    found = max(found, int(rise[s - 1]))
            level[count], left[count], right[count] = found, i, j
            if closing >= 0:
                needed[lowest(level, closing, count)] = 0
            count += 1
            if q == width and s == width:
                break
            if q == s and diagonal:  # of two crossing contacts the lower one joins nothing new
                turn = int(fall[q - 1] < rise[q - 1])
                level[count], left[count], right[count] = max(fall[q - 1], rise[q - 1]), i + turn, j + 1 - turn
                needed[lowest(level, i - y if turn else j - y - 1, count)] = 0
                count += 1
                closing = j - y - 1 if turn else i - y
            elif q == s:
                closing = -1
            else:
                closing = i - y if q < s else j - y - 1
            i += q <= s
            j += s <= q
    kept = 0
    for k in range(count):
        level[kept], left[kept], right[kept] = level[k], left[k], right[k]
        kept += needed[k] and level[k] > 0
    return level[:kept], left[:kept], right[:kept]


@helper
def lowest(level: Ints, closing: int, last: int) -> int:
    """Return which edge of ``closing``, ``last`` - 1 and ``last`` is the lowest, of equals the last one."""
    found = last - 1 if level[last - 1] < level[last] else last
    return closing if level[closing] < level[found] else found


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
    start, born, offset = row_basins(levels)
    edge_level, left, right = edges(levels, start, offset, diagonal)
    peak_level, basin, column = column_peaks(levels, start, offset)
    nodes, joints = len(start), len(edge_level)
    level = np.concatenate((edge_level, peak_level))
    order = by_level(level, top)
    parent = np.arange(nodes).astype(np.int32)
    live = np.empty((nodes, 8), np.int32)  # as a state, but for the level where this box began in place of its cuts
    for y in range(len(levels)):
        for i in range(offset[y], offset[y + 1]):
            live[i, 0], live[i, 1], live[i, 2], live[i, 3] = i, i, 0, born[i]
            live[i, 4], live[i, 5], live[i, 6], live[i, 7] = levels.shape[1], y, -1, y
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
            count = record(states, count, live, b, now)
            x0, y0, x1, y1, head = live[b, 4], live[b, 5], live[b, 6], live[b, 7], live[b, 1]
            live[b, 3] = 0
        else:
            a = root_of(parent, basin[item - joints])
            x0 = x1 = column[item - joints]
            y0, y1, head = live[a, 5], live[a, 7], live[a, 1]
        if x0 < live[a, 4] or y0 < live[a, 5] or x1 > live[a, 6] or y1 > live[a, 7] or head < live[a, 1]:
            count = record(states, count, live, a, now)
            live[a, 1], live[a, 3] = min(head, live[a, 1]), now
            live[a, 4], live[a, 5] = min(x0, live[a, 4]), min(y0, live[a, 5])
            live[a, 6], live[a, 7] = max(x1, live[a, 6]), max(y1, live[a, 7])
    for a in range(nodes):
        count = record(states, count, live, a, 0)
    return states[:count], merges[:merged], start, offset, born


@helper
def record(states: Ints, count: int, live: Ints, node: int, now: int) -> int:
    """Store the box of a component with the cuts since it began down to ``now``, if any; return the new count."""
    if live[node, 3] > now:
        for k in range(8):
            states[count, k] = live[node, k]
        states[count, 2], states[count, 3] = now, live[node, 3] - 1
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
            there, here = table[row[stays], 1 : level + 1], table[row[ends], 1 : level + 1]
            for cut in range(min(len(there), len(here))):
                there[cut] += here[cut]
    return table, row


@helper
def largest_states(states: Ints, table: Ints, row: Ints, cuts: int, last: bool) -> Ints:
    """Return for each cut the state of largest area; of equals the first in reading order, or the ``last``."""
    winner = np.full(cuts, -1, np.int32)
    area = np.full(cuts, -1, np.int32)
    for k in range(len(states)):
        mine = table[row[states[k, 0]]]
        for cut in range(states[k, 2], states[k, 3] + 1):
            if mine[cut + 1] < area[cut]:
                continue
            if mine[cut + 1] > area[cut] or (states[k, 1] > states[winner[cut], 1]) == last:
                area[cut], winner[cut] = mine[cut + 1], k
    return winner


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
def ranked(values: Levels, ranks: Levels) -> Levels:
    """Return ranks[values]."""
    height, width = values.shape
    found = np.empty((height, width), np.uint16)
    for y in range(height):
        for x in range(width):
            found[y, x] = ranks[values[y, x]]
    return found


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


def curve(
    values: Levels, ranks: Levels, cuts: int, truth: Floats, reference: bool, largest: bool
) -> tuple[Floats, Floats, Floats]:
    """Return for each cut [cuts] the best IoU of any box, and of the largest contour's with any box and the first.

    ``ranks`` [max + 1] gives the level of each of ``values`` [H, W]. ``reference``: corners as OpenCV's rectangles give
    them, sides count one more, and holes have boxes too; of components of equal area the last in reading order is the
    largest, as in OpenCV's list. Area is that with holes filled in, so it is measured on the map without them.
    """
    levels = ranked(values, ranks)
    height, width = levels.shape
    pixel = 1.0 if reference else 0.0
    any_box, main_box, main_first = np.zeros(cuts), np.zeros(cuts), np.zeros(cuts)
    eight, four = bool(1), bool(0)  # for literals numba would compile all of `grow` twice
    states, merges, start, offset, born = grow(levels, cuts, eight)
    for k in range(len(states)):
        x0, y0, x1, y1 = box_of(states[k], height, width, pixel)
        best, _ = overlap(x0, y0, x1, y1, truth, pixel)
        for cut in range(states[k, 2], states[k, 3] + 1):
            any_box[cut] = max(any_box[cut], best)
    if reference or largest:
        outside = ringed_complement(levels, cuts)
        holes, joins, hole_start, hole_offset, _ = grow(outside, cuts + 1, four)
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
            states, merges, start, offset, born = grow(levels, cuts, eight)
    if largest:
        table, row = areas(levels, cuts, merges, start, offset, born)
        winner = largest_states(states, table, row, cuts, reference)
        for cut in range(cuts):
            x0, y0, x1, y1 = box_of(states[winner[cut]], height, width, pixel)
            main_box[cut], main_first[cut] = overlap(x0, y0, x1, y1, truth, pixel)
    return any_box, main_box, main_first


run = kernel(curve, "UniTuple(f8[::1], 3)(u2[:, ::1], u2[::1], i8, f8[:, ::1], b1, b1)")
