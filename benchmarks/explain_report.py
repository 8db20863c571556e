"""What `benchmarks/explain.py` found: rows, the bars they are held to, and both as tables."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.explain_calls import LINEAR

OPTIMIZED_BARS = {"resnet50": 0.9, "mobilenet_v2": 0.65}


@dataclass(frozen=True)
class Row:
    """One variant on one model and batch: CPU seconds a photo, or why there are none; MiB above the idle process."""

    model: str
    batch: int
    variant: str
    seconds: float | None = None
    failure: str | None = None
    mebibytes: float | None = None


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

    def seconds(self, model: str, batch: int, variant: str) -> float:
        """Return CPU seconds a photo; `KeyError` where they were not measured."""
        found = self._found[model, batch, variant].seconds
        if found is None:
            raise KeyError(variant)
        return found

    def mebibytes(self, model: str, batch: int, variant: str) -> float:
        """Return MiB above the idle process; `KeyError` where they were not measured."""
        found = self._found[model, batch, variant].mebibytes
        if found is None:
            raise KeyError(variant)
        return found

    def bars(self) -> Iterator[Bar]:
        """Yield the bars of everything that was measured."""
        for model, batch in dict.fromkeys((row.model, row.batch) for row in self.rows):
            for what, measure, allowed in self._bars_of(model, batch):
                try:
                    yield Bar(f"{model}, batch {batch}: {what}", measure(), allowed)
                except KeyError:
                    continue
        for item in self.score_cams:
            if item.tool == "dualcam":
                yield Bar(f"{item.model}: Score-CAM, plain forwards a channel", median(item.plain), 1.05)

    def _bars_of(self, model: str, batch: int) -> Iterator[tuple[str, Callable[[], float], float]]:
        def seconds(variant: str) -> float:
            return self.seconds(model, batch, variant)

        def memory(variant: str) -> float:
            return self.mebibytes(model, batch, variant) / self.mebibytes(model, batch, "inference")

        def over_tail(k: str) -> float:
            return (seconds(f"dualcam {k}") - seconds("second head")) / seconds(f"tail only {k}")

        if model in LINEAR:
            yield "1 class over plain", lambda: seconds("dualcam 1") / seconds("plain"), 1.03
            yield "5 classes over plain", lambda: seconds("dualcam 5") / seconds("plain"), 1.10
            yield "all classes over plain", lambda: seconds("dualcam all") / seconds("plain"), 1.20
        else:
            yield "1 class, without the second head, over tail only", lambda: over_tail("1"), 1.05
            yield "5 classes, without the second head, over tail only", lambda: over_tail("5"), 1.05
        if model in OPTIMIZED_BARS:
            yield "optimized over plain", lambda: seconds("optimized 1") / seconds("plain"), OPTIMIZED_BARS[model]
        if batch > 1:
            yield "peak memory over inference", lambda: memory("dualcam 1"), 1.2 if model in LINEAR else 2.0

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
        head = ["bar", "measured", "allowed", "holds"]
        return [head] + [
            [bar.what, f"{bar.measured:.3f}", f"{bar.allowed:.2f}", "yes" if bar.holds else "no"] for bar in self.bars()
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
