"""A heat map to components: boxes as `dualcam.localize.find_boxes` finds them, and their masks."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dualcam.annotation import Region
from dualcam.annotation.rle import encode
from dualcam.explanation import ClassEvidence
from dualcam.localize import find_components


def class_regions(evidence: ClassEvidence, threshold: float, most: int | None = None) -> tuple[Region, ...]:
    """Return the ``most`` best components (default: all) of the map's part above ``threshold`` x maximum, best first.

    Boxes are those of `ClassEvidence.boxes`. Masks have the size of the upright source photo; those of photos larger
    than the grid on which boxes are found have edges in steps of its pixels.
    """
    return find_regions(evidence.heatmap(size=evidence.box_grid), threshold, evidence.placement.source, most)


def find_regions(
    heatmap: NDArray[np.float32], threshold: float, source: tuple[int, int], most: int | None = None
) -> tuple[Region, ...]:
    """Return the 8-connected components of ``heatmap`` above ``threshold`` x maximum, carried to ``source`` (w, h).

    A mask's bounding box is its region's box, to the pixel.
    """
    found = find_components(heatmap, threshold)
    rows, columns = _edges(heatmap.shape[0], source[1]), _edges(heatmap.shape[1], source[0])
    regions = []
    for item in found.best[:most]:
        mask = np.repeat(found.labels == item.label, _steps(rows), axis=0).repeat(_steps(columns), axis=1)
        box = (columns[item.x], rows[item.y], columns[item.x + item.width], rows[item.y + item.height])
        regions.append(Region(box, item.share, encode(mask)))
    return tuple(regions)


def _edges(cells: int, pixels: int) -> list[int]:
    """Return where each of ``cells`` begins in ``pixels``, and the end."""
    scale = pixels / cells
    return [round(cell * scale) for cell in range(cells + 1)]


def _steps(edges: list[int]) -> list[int]:
    return [after - before for before, after in pairwise(edges)]
