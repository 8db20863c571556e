"""What `benchmarks/explain.py` found: rows, the bars they are held to, and both as tables."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from benchmarks.explain_calls import LINEAR

OPTIMIZED_BARS = {"resnet50": 0.9, "mobilenet_v2": 0.65}
DRAWS = 2000
"""Of rounds, with replacement, the same for both sides of a ratio."""


@dataclass(frozen=True)
class Row:
    """One variant on one model and batch: CPU seconds a photo, or why there are none; MiB above the idle process.

    ``rounds`` are the seconds a photo of each round; what bars hang on has run in every one.
    """

    model: str
    batch: int
    variant: str
    rounds: tuple[float, ...] = ()
    failure: str | None = None
    mebibytes: float | None = None

    @property
    def seconds(self) -> float | None:
        """The median of the rounds."""
        return median(self.rounds) if self.rounds else None


@dataclass(frozen=True)
class ScoreCam:
    """Score-CAM of one image: CPU seconds, of a process's first call and of one among others.

    ``plain`` and ``inference`` are, for each call, a channel's cost in images' shares of a forward of 16.
    """

    model: str
    tool: str
    channels: int
    first: float
    seconds: float
    plain: tuple[float, ...]
    inference: tuple[float, ...]


@dataclass(frozen=True)
class Bar:
    """What a figure is held to."""

    what: str
    measured: float
    allowed: float
    interval: tuple[float, float] | None = None
    """The middle 95 percent of what draws of the rounds give, or the range of the few."""
    rounds: int | None = None

    @property
    def holds(self) -> bool:
        """Whether the figure is within its bar."""
        return self.measured <= self.allowed


class Figures:
    """The rows, found by model, batch and variant."""

    def __init__(self, rows: Sequence[Row], score_cams: Sequence[ScoreCam] = ()) -> None:
        self.rows = tuple(rows)
        self.score_cams = tuple(score_cams)
        self._found = {(row.model, row.batch, row.variant): row for row in rows}

    def seconds(self, model: str, batch: int, variant: str, drawn: Any = slice(None)) -> Any:
        """Return CPU seconds a photo: the median of the rounds, or of each row of ``drawn`` [draws, rounds].

        Raises `KeyError` where they were not measured.
        """
        found = self._found[model, batch, variant].rounds
        if not found:
            raise KeyError(variant)
        return np.median(np.array(found)[drawn], -1)

    def mebibytes(self, model: str, batch: int, variant: str) -> float:
        """Return MiB above the idle process; `KeyError` where they were not measured."""
        found = self._found[model, batch, variant].mebibytes
        if found is None:
            raise KeyError(variant)
        return found

    def bars(self) -> Iterator[Bar]:
        """Yield the bars of everything that was measured."""
        for model, batch in dict.fromkeys((row.model, row.batch) for row in self.rows):
            for what, measure, allowed in self._time_bars(model, batch):
                try:
                    yield self._time_bar(f"{model}, batch {batch}: {what}", measure, allowed, model, batch)
                except KeyError:
                    continue
            try:
                peaks = [self.mebibytes(model, batch, variant) for variant in ("dualcam 1", "inference")]
            except KeyError:
                continue
            allowed = 1.2 if model in LINEAR else 2.0
            yield Bar(f"{model}, batch {batch}: peak memory over inference", peaks[0] / peaks[1], allowed)
        for item in self.score_cams:
            if item.tool == "dualcam":
                what, calls = f"{item.model}: Score-CAM, plain forwards a channel", item.plain
                yield Bar(what, median(calls), 1.05, (min(calls), max(calls)), len(calls))

    def _time_bars(self, model: str, batch: int) -> Iterator[tuple[str, Callable[[Any], Any], float]]:
        """Yield what is measured, how (from draws of the rounds), and what is allowed."""

        def over_plain(variant: str) -> Callable[[Any], Any]:
            return lambda drawn: seconds(variant, drawn) / seconds("plain", drawn)

        def over_tail(k: str) -> Callable[[Any], Any]:
            return lambda drawn: (
                (seconds(f"dualcam {k}", drawn) - seconds("second head", drawn)) / seconds(f"tail only {k}", drawn)
            )

        def seconds(variant: str, drawn: Any) -> Any:
            return self.seconds(model, batch, variant, drawn)

        if model in LINEAR:
            yield "1 class over plain", over_plain("dualcam 1"), 1.03
            yield "5 classes over plain", over_plain("dualcam 5"), 1.10
            yield "all classes over plain", over_plain("dualcam all"), 1.20
        else:
            yield "1 class, without the second head, over tail only", over_tail("1"), 1.05
            yield "5 classes, without the second head, over tail only", over_tail("5"), 1.05
        if model in OPTIMIZED_BARS:
            yield "optimized over plain", over_plain("optimized 1"), OPTIMIZED_BARS[model]

    def _time_bar(self, what: str, measure: Callable[[Any], Any], allowed: float, model: str, batch: int) -> Bar:
        rounds = len(self._found[model, batch, "plain"].rounds)
        drawn = np.random.default_rng(0).integers(rounds, size=(DRAWS, rounds))
        low, high = np.percentile(measure(drawn), [2.5, 97.5])
        return Bar(what, float(measure(slice(None))), allowed, (float(low), float(high)), rounds)

    def table(self) -> list[list[str]]:
        """Return the table, its head first."""
        lines = [["model", "batch", "variant", "ms a photo", "over plain", "over inference", "MiB", "memory"]]
        for row in self.rows:
            cells = [row.model, str(row.batch), row.variant]
            if row.seconds is None:
                lines.append([*cells, row.failure or "", "", "", *self._memory_cells(row)])
                continue
            ratios = []
            for baseline in ("plain", "inference"):
                base = self._found.get((row.model, row.batch, baseline))
                ratios.append(f"{row.seconds / base.seconds:.3f}" if base and base.seconds else "")
            lines.append([*cells, f"{1e3 * row.seconds:.1f}", *ratios, *self._memory_cells(row)])
        return lines

    def _memory_cells(self, row: Row) -> list[str]:
        base = self._found.get((row.model, row.batch, "inference"))
        if row.mebibytes is None or base is None or not base.mebibytes:
            return ["", ""]
        return [f"{row.mebibytes:.0f}", f"{row.mebibytes / base.mebibytes:.2f}"]

    def score_cam_table(self) -> list[list[str]]:
        """Return Score-CAM's table, its head first."""
        forwards = ("plain forwards a channel", "inference forwards a channel")
        return [["model", "tool", "channels", "s, first call", "s an image", *forwards]] + [
            [
                item.model,
                item.tool,
                str(item.channels),
                f"{item.first:.1f}",
                f"{item.seconds:.1f}",
                _range(item.plain),
                _range(item.inference),
            ]
            for item in self.score_cams
        ]

    def bar_table(self) -> list[list[str]]:
        """Return the table of bars, its head first."""
        return [["bar", "measured", "interval", "rounds", "allowed", "holds"]] + [
            [
                bar.what,
                f"{bar.measured:.3f}",
                "" if bar.interval is None else f"{bar.interval[0]:.2f} to {bar.interval[1]:.2f}",
                "" if bar.rounds is None else str(bar.rounds),
                f"{bar.allowed:.2f}",
                "yes" if bar.holds else "no",
            ]
            for bar in self.bars()
        ]


def as_markdown(figures: Figures, about: str, explained: str, score_cam: str) -> str:
    """Return the page: what was measured and how, the bars, the tables."""
    parts = [
        "# What an explanation costs",
        about,
        "## Bars",
        _table(figures.bar_table()),
        "## Every variant",
        explained,
    ]
    models = list(dict.fromkeys(row.model for row in figures.rows))
    for model in models:
        for batch in dict.fromkeys(row.batch for row in figures.rows if row.model == model):
            some = Figures([row for row in figures.rows if (row.model, row.batch) == (model, batch)]).table()
            parts += [f"### {model}, batch {batch}", _table([line[2:] for line in some])]
    if figures.score_cams:
        parts += ["## Score-CAM", score_cam, _table(figures.score_cam_table())]
    return "\n\n".join(parts) + "\n"


def _range(values: Sequence[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def _table(lines: list[list[str]]) -> str:
    head, *body = (f"| {' | '.join(cells)} |" for cells in lines)
    return "\n".join([head, f"|{'---|' * len(lines[0])}", *body])
