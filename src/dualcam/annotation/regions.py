"""A heat map to components: boxes as `dualcam.localize.find_boxes` finds them, and their masks."""

from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from dualcam.annotation import Region
from dualcam.annotation.rle import encode
from dualcam.explanation import BOX_GRID, ClassEvidence


def class_regions(evidence: ClassEvidence, threshold: float, most: int | None = None) -> tuple[Region, ...]:
    """Return the ``most`` best components (default: all) of the map's part above ``threshold`` x maximum, best first.

    Boxes are those of `ClassEvidence.boxes`. Masks have the size of the upright source photo; those of photos larger
    than the grid on which boxes are found have edges in steps of its pixels.
    """
    width, height = evidence.placement.source
    shrink = min(1.0, BOX_GRID / max(width, height))
    grid = (max(1, round(height * shrink)), max(1, round(width * shrink)))
    return find_regions(evidence.heatmap(size=grid), threshold, (width, height), most)


def find_regions(
    heatmap: NDArray[np.float32], threshold: float, source: tuple[int, int], most: int | None = None
) -> tuple[Region, ...]:
    """Return the 8-connected components of ``heatmap`` above ``threshold`` x maximum, carried to ``source`` (w, h).

    A mask's bounding box is its region's box, to the pixel.
    """
    levels = (255 * heatmap).astype(np.uint8)
    foreground = (levels > int(threshold * float(levels.max()))).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(foreground, connectivity=8)
    if count < 2:
        return ()
    sums = np.bincount(labels.ravel(), weights=heatmap.ravel().astype(np.float64), minlength=count)
    shares = sums / float(heatmap.sum(dtype=np.float64))
    rows, columns = _edges(heatmap.shape[0], source[1]), _edges(heatmap.shape[1], source[0])
    best = sorted(range(1, count), key=lambda component: -shares[component])[:most]
    regions = []
    for component in best:
        x, y, width, height = (int(value) for value in stats[component, :4])
        mask = np.repeat(labels == component, _steps(rows), axis=0).repeat(_steps(columns), axis=1)
        box = (columns[x], rows[y], columns[x + width], rows[y + height])
        regions.append(Region(box, float(shares[component]), encode(mask)))
    return tuple(regions)


def _edges(cells: int, pixels: int) -> list[int]:
    """Return where each of ``cells`` begins in ``pixels``, and the end."""
    scale = pixels / cells
    return [round(cell * scale) for cell in range(cells + 1)]


def _steps(edges: list[int]) -> list[int]:
    return [after - before for before, after in pairwise(edges)]
