"""Was training needed? Scores that no shift can change, and the sigmoid branch, beside plain softmax CAM."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dualcam.diagnose.agreement import Agreement, Judge, agreement, find_all_boxes
from dualcam.diagnose.maps import SIGMOID, Drawn, Maps
from dualcam.metrics.bootstrap import Interval, mean_interval
from dualcam.metrics.box_curve import box_curve, cuts_of, quantize
from dualcam.types import Normalization

PLAIN, SHIFTED = "softmax", "softmax, shifted"
NAMES = {
    "logit": PLAIN,
    "centered": "centered",
    "log-odds": "log-odds",
    "log-probability": "log p",
    "probability": "p",
    SIGMOID: "sigmoid branch",
}
HIT = 0.5


@dataclass(frozen=True)
class Comparison:
    """How alike the maps of two scores are."""

    first: str
    second: str
    agreement: Agreement


@dataclass(frozen=True)
class Localization:
    """GT-known Loc as a fraction: the largest component's box reaches IoU 0.5 with a true box, maps of the true class.

    ``signed`` maps under min-max, ``positive`` ones under max.
    """

    score: str
    signed: Interval
    positive: Interval


def named_maps(drawn: Drawn, shift: int | None) -> dict[str, Maps]:
    """Return the maps [N, h, w] by name, those after shift number ``shift`` among them."""
    maps = {name: drawn.by_score[score] for score, name in NAMES.items()}
    if shift is not None and drawn.shifted is not None:
        maps[SHIFTED] = Maps(drawn.shifted.signed[:, shift], drawn.shifted.positive[:, shift])
    return maps


def compare_scores(maps: Mapping[str, Maps], judge: Judge) -> list[Comparison]:
    """Return the agreement of each two kinds of map."""
    boxes = {name: find_all_boxes(each, judge) for name, each in maps.items()}
    names = list(maps)
    return [
        Comparison(first, second, agreement([(maps[first], maps[second])], [(boxes[first], boxes[second])]))
        for place, first in enumerate(names)
        for second in names[place + 1 :]
    ]


def localize(maps: Mapping[str, Maps], judge: Judge, truth: Sequence[NDArray[np.float64]]) -> list[Localization]:
    """Return GT-known Loc of each kind of map; ``truth`` are true boxes [G, 4] on the 224 x 224 grid, photo by photo.

    Photos without a true box are left out.
    """
    photos = [photo for photo, boxes in enumerate(truth) if len(boxes)]

    def hits(values: NDArray[np.float64], how: Normalization) -> Interval:
        found = []
        for photo in photos:
            levels = quantize(judge.heat(values[photo], photo, how))
            cuts = cuts_of(levels, np.array([judge.threshold]))
            found.append(float(box_curve(levels, cuts, truth[photo], mode="clean").largest[0] >= HIT))
        return mean_interval(found)

    return [Localization(name, hits(each.signed, "minmax"), hits(each.positive, "max")) for name, each in maps.items()]
