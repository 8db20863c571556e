"""How pseudo-boxes agree with true boxes, class by class, beside a box that never looked at the photo."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from dualcam.annotation import Annotation
from dualcam.data.truth import Boxes
from dualcam.localize import iou
from dualcam.metrics.center_box import center_box

CENTER_SHARE = 0.5
"""Area of the centred box, as a share of the photo's."""
MOST_ROWS = 40


@dataclass
class Tally:
    """Counts of pseudo-boxes.

    ``boxes`` all; ``judged`` those in photos with true boxes, of which ``iou_50`` and ``iou_70`` reach that IoU
    (half-open) with any true box. ``photos`` are the judged boxes' photos, of which a centred box of half the area
    reaches it in ``center_50`` and ``center_70``.
    """

    boxes: int = 0
    judged: int = 0
    iou_50: int = 0
    iou_70: int = 0
    photos: int = 0
    center_50: int = 0
    center_70: int = 0

    def add(self, other: "Tally") -> None:
        """Add another's counts."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))


class Truth(Protocol):
    """True boxes [G, 4] of a photo, by its absolute path, that a class's boxes are compared with; None: not judged."""

    def of(self, path: str, label: int) -> NDArray[np.float64] | None:
        """Return the boxes to compare those of class ``label`` with."""


class TrueBoxes:
    """The true boxes of photos, or, with ``labels``, of (photo, label) pairs; they stay in the dataset's flat arrays.

    Without ``labels`` boxes of any class are compared with all of the photo's.
    """

    def __init__(self, boxes: Boxes, paths: Iterable[str], labels: Iterable[int] | None = None) -> None:
        self._boxes, self._by_label = boxes, labels is not None
        keys = ((path, -1) for path in paths) if labels is None else zip(paths, labels, strict=True)
        self._places = {key: place for place, key in enumerate(keys)}

    def of(self, path: str, label: int) -> NDArray[np.float64] | None:
        """Return the boxes to compare those of class ``label`` with."""
        place = self._places.get((path, label if self._by_label else -1))
        return None if place is None else self._boxes[place]


def judge(annotations: Iterable[Annotation], truth: Truth) -> dict[str, Tally]:
    """Return the tally of each class of the pseudo-boxes, by its name; photos not in ``truth`` are not judged."""
    tallies: dict[str, Tally] = {}
    for item in annotations:
        for found in item.classes:
            true = truth.of(item.path, found.index)
            if found.regions:
                tallies.setdefault(found.name, Tally()).add(
                    _tally([region.box for region in found.regions], true, (item.width, item.height))
                )
    return dict(sorted(tallies.items()))


def _tally(boxes: list[tuple[int, int, int, int]], true: NDArray[np.float64] | None, size: tuple[int, int]) -> Tally:
    if true is None or not len(true):
        return Tally(boxes=len(boxes))
    best = [_best(box, true) for box in boxes]
    center = _best((center_box(CENTER_SHARE, grid=1) * np.tile(size, 2)).tolist(), true)
    return Tally(
        boxes=len(boxes),
        judged=len(boxes),
        iou_50=sum(value >= 0.5 for value in best),
        iou_70=sum(value >= 0.7 for value in best),
        photos=1,
        center_50=int(center >= 0.5),
        center_70=int(center >= 0.7),
    )


def _best(box: Any, true: NDArray[np.float64]) -> float:
    return max(iou(box, other) for other in true.tolist())


def total(tallies: Mapping[str, Tally]) -> Tally:
    """Return the sum over classes."""
    everything = Tally()
    for tally in tallies.values():
        everything.add(tally)
    return everything


def as_json(tallies: Mapping[str, Tally]) -> dict[str, Any]:
    """Return the counts as JSON values."""
    return {
        "center_box_share": CENTER_SHARE,
        "all": asdict(total(tallies)),
        "classes": {name: asdict(tally) for name, tally in tallies.items()},
    }


def as_table(tallies: Mapping[str, Tally]) -> Table:
    """Return the table that is printed; of many classes those with the most boxes."""
    table = Table(title="pseudo-boxes that reach an IoU with a true box, and a centred box of half the area")
    for name in ("class", "pseudo-boxes", "IoU 0.5", "IoU 0.7", "centre 0.5", "centre 0.7"):
        table.add_column(name, justify="left" if name == "class" else "right")
    shown = sorted(sorted(tallies, key=lambda name: -tallies[name].boxes)[:MOST_ROWS])
    for name in shown:
        table.add_row(name, *_cells(tallies[name]))
    if len(shown) < len(tallies):
        table.add_row(f"({len(tallies) - len(shown)} more in summary.json)")
    table.add_section()
    table.add_row("all", *_cells(total(tallies)))
    return table


def _cells(tally: Tally) -> list[str]:
    def share(count: int, of: int) -> str:
        return f"{count} ({count / of:.0%})" if of else "-"

    return [
        str(tally.boxes),
        share(tally.iou_50, tally.judged),
        share(tally.iou_70, tally.judged),
        share(tally.center_50, tally.photos),
        share(tally.center_70, tally.photos),
    ]
