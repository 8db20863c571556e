"""A study at a glance, drawn: a panel per metric, a row per change, and right is better."""

from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from dualcam.ablation.effects import Estimate
from dualcam.ablation.figures import Result
from dualcam.ablation.glance import STEP, Line, lines_of
from dualcam.files import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

METRICS = (
    *("MaxBoxAccV2", "GT-known Loc", "PxAP", "Average Drop", "Average Gain"),
    *("Insertion AUC", "Deletion AUC", "ROAD", "Max-sensitivity"),
)
"""Drawn where they were measured, in this order; the tables have all."""
BETTER, WORSE, UNDECIDED = "#0072b2", "#d55e00", "#8c8c8c"
BELOW = {"first": -0.17, "last": 0.17}
"""How far below the middle of its row an effect stands, by field of `Line`."""
PANELS_A_ROW = 5


def write_forest(path: Path, figure: "Figure") -> None:
    """Write the figure as a PNG."""
    with write_whole(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def draw_forest(result: Result, title: str) -> "Figure | None":
    """Return what each change brings, with its 95 % interval; None where a study has nothing to draw.

    A panel is as wide as the effects of the step need; an arrow with its number stands for an effect beyond.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines, metrics = lines_of(result.effects), [metric for metric in METRICS if metric in result.metrics]
    if not lines or not metrics:
        return None
    down = -(-len(metrics) // PANELS_A_ROW)
    across = -(-len(metrics) // down)
    height = down * (0.9 + 0.31 * len(rows_of(lines))) + 0.9
    figure = Figure(figsize=(2.6 + 2.1 * across, height), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(down, across, squeeze=False)
    for panel in panels.flat[len(metrics) :]:
        panel.remove()
    for panel, metric in zip(panels.flat, metrics, strict=False):
        _draw(panel, lines, metric, -1 if metric in result.lower else 1)
        photos = next(iter(result.values.values()))[metric].photos
        few = f" (n = {photos})" if photos < result.photos else ""
        panel.set_title(f"{metric}{' ↓' if metric in result.lower else ''}{few}", fontsize=9)
    for panel in panels[:, 0]:
        _name_rows(panel, rows_of(lines))
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    beside = min(3, max(1, across - 1))
    figure.legend(handles=_legend(), loc="outside lower left", ncols=beside, frameon=False, fontsize=8.5)
    return figure


def rows_of(lines: Sequence[Line]) -> list[tuple[str, Line | None]]:
    """Return what stands at heights 0, 1, ...: each section's heading, then its lines."""
    rows: list[tuple[str, Line | None]] = []
    for section in dict.fromkeys(line.section for line in lines):
        rows.append((section, None))
        rows += [(line.name, line) for line in lines if line.section == section]
    return rows


def reach(lines: Sequence[Line], metric: str) -> float:
    """Return how far from zero a panel has to show: as the intervals of the step do, or of all where there is none."""
    step = [line for line in lines if line.section == STEP] or lines
    shown = [each[metric] for line in step for each in (line.first, line.last) if each is not None]
    ends = [abs(end) for figure in shown for end in (figure.low, figure.high) if isfinite(end)]
    return 1.08 * max(ends, default=0.0) or 1.0


def color_of(figure: Estimate, better: int) -> str:
    """Return the color of an effect: undecided unless its interval leaves zero out; ``better`` is -1 if less is."""
    if not figure.differs:
        return UNDECIDED
    return BETTER if figure.mean * better > 0 else WORSE


def _draw(panel: "Axes", lines: Sequence[Line], metric: str, better: int) -> None:
    rows, limit = rows_of(lines), reach(lines, metric)
    panel.axvline(0, color="black", linewidth=0.8)
    for height, (_, line) in enumerate(rows):
        for field, below in BELOW.items():
            figures = getattr(line, field, None)
            if figures is not None:
                _mark(panel, figures[metric], height + below, limit, better, hollow=field == "first")
    panel.set_xlim(-limit * better, limit * better)
    panel.set_ylim(len(rows) - 0.5, -0.5)
    panel.set_yticks([])
    panel.tick_params(axis="x", labelsize=8)
    panel.grid(axis="x", alpha=0.25)
    panel.spines[["left", "right", "top"]].set_visible(False)


def _name_rows(panel: "Axes", rows: Sequence[tuple[str, Line | None]]) -> None:
    panel.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=8.5)
    panel.tick_params(axis="y", length=0)
    for label, (_, line) in zip(panel.get_yticklabels(), rows, strict=True):
        label.set_fontweight("normal" if line else "bold")


def _mark(panel: "Axes", figure: Estimate, height: float, limit: float, better: int, *, hollow: bool) -> None:
    """Draw an effect, or an arrow with its number where it lies outside of the panel; nothing where there is none."""
    color = color_of(figure, better)
    if abs(figure.mean) > limit:
        edge = limit if figure.mean > 0 else -limit
        panel.annotate(
            f"{figure.mean:+.0f}",
            xy=(edge, height),
            xytext=(0.8 * edge, height),
            ha="right" if edge * better > 0 else "left",
            va="center",
            fontsize=7.5,
            color=color,
            arrowprops={"arrowstyle": "->", "color": color},
        )
        return
    panel.plot([max(figure.low, -limit), min(figure.high, limit)], [height, height], color=color, linewidth=1.4)
    panel.plot(figure.mean, height, "o", markersize=4.6, color=color, markerfacecolor="white" if hollow else color)


def _legend() -> list["Line2D"]:
    from matplotlib.lines import Line2D

    def entry(name: str, color: str, face: str, line: str) -> Line2D:
        return Line2D([], [], marker="o", markersize=4.6, color=color, markerfacecolor=face, linestyle=line, label=name)

    return [
        entry("changed in the plain map", "black", "white", "none"),
        entry("changed last, the rest of the dual branch in place", "black", "black", "none"),
        entry("better: its 95 % interval leaves zero out", BETTER, BETTER, "-"),
        entry("worse", WORSE, WORSE, "-"),
        entry("undecided", UNDECIDED, UNDECIDED, "-"),
    ]
