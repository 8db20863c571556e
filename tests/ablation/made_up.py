"""Made-up figures of a whole study, for what is made of figures."""

from itertools import product
from statistics import fmean

import numpy as np

from dualcam.ablation.contrasts import Combination, make_contrasts, the_step
from dualcam.ablation.effects import Estimate
from dualcam.ablation.figures import Effect, Result
from dualcam.ablation.heads import HEADS
from dualcam.evaluation.cells import NORMALIZATIONS, SIGNS
from dualcam.metrics.bootstrap import Interval

ALL = [
    Combination(head, method, sign, how)
    for head, method, sign, how in product(HEADS, ("cam", "grad-cam++"), SIGNS, NORMALIZATIONS)
]
PLAIN, DUAL = the_step("cam")
METRICS = ("MaxBoxAccV2", "Average Drop", "Top-5 Loc")


def exact(value: float, width: float = 0.0) -> Estimate:
    return Estimate(value, value - width, value + width / 2, 0.1, 20, 3)


def made_up(combinations: list[Combination]) -> dict[Combination, float]:
    return dict(zip(combinations, np.random.default_rng(5).normal(size=len(combinations)).tolist(), strict=True))


def effects_of(value: dict[Combination, float], width: float = 0.0, metrics: tuple[str, ...] = METRICS) -> list[Effect]:
    return [
        Effect(
            contrast,
            dict.fromkeys(
                metrics,
                exact(fmean(value[after] - value[before] for before, after in contrast.pairs), width),
            ),
        )
        for contrast in make_contrasts(list(value))
    ]


def result_of(effects: list[Effect], metrics: tuple[str, ...] = METRICS) -> Result:
    return Result(
        metrics=metrics,
        lower=frozenset({"Average Drop"}),
        values={
            item: {**dict.fromkeys(metrics, exact(50)), "Average Drop": Estimate(1, 0, 2, 0, 7, 3)} for item in ALL
        },
        effects=effects,
        equal={},
        trivial={"centre box": {"MaxBoxAccV2": Interval(40, 30, 50, 20)}},
        rows={},
        top1=exact(90),
        seeds=3,
        photos=20,
        choosing=(5,),
        broken=0,
        told="",
    )
