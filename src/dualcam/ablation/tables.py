"""A study as tables: what each ingredient brings, and every combination; terminal, Markdown, CSV and JSON."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from dualcam.ablation.contrasts import Combination
from dualcam.ablation.effects import Estimate
from dualcam.ablation.figures import Effect, Result
from dualcam.ablation.forest import draw_forest, write_forest
from dualcam.ablation.heads import HEADS
from dualcam.files import write_json, write_whole

WIDE = frozenset({"MaxBoxAcc", "Top-5 Loc", "best IoU", "pointing"})
"""Figures that stand in the CSV and JSON files only."""
NUMBERS = ("mean", "low", "high", "spread")
PICTURE = "ablation.png"


def write_study(folder: Path, result: Result, about: dict[str, Any]) -> list[Path]:
    """Write the tables, each file whole or not at all; return their paths, that of ablation.json first.

    It is written last: where it is, all are. Where there is something to draw, ablation.png is.
    """
    figure = draw_forest(result, heading(result, Path(about.get("data", "")).name))
    if figure is None:
        (folder / PICTURE).unlink(missing_ok=True)
    else:
        write_forest(folder / PICTURE, figure)
    files = {
        "ablation.md": as_markdown(result, about, picture=figure is not None),
        "effects.csv": effects_csv(result),
        "values.csv": values_csv(result),
    }
    for name, text in files.items():
        with write_whole(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    write_json(folder / "ablation.json", as_json(result, about))
    drawn = [] if figure is None else [PICTURE]
    return [folder / name for name in ("ablation.json", *drawn, *files)]


def heading(result: Result, name: str) -> str:
    """Return what stands above the picture of a study of the data ``name``."""
    return (
        f"{name}: what each change brings, in percent points\n"
        f"right is better; n = {result.photos} photos x {result.seeds} seeds"
    )


def shown(result: Result) -> list[str]:
    """Return the metrics of the narrow tables."""
    return [metric for metric in result.metrics if metric not in WIDE]


def titled(result: Result) -> list[str]:
    """Return them as headings: an arrow marks what is the better the lower it is."""
    return [f"{metric} ↓" if metric in result.lower else metric for metric in shown(result)]


def change(effect: Effect) -> str:
    """Return what was changed, in words."""
    contrast = effect.contrast
    if contrast.ingredient == "all":
        return f"{contrast.before} → {contrast.after}"
    return f"{contrast.ingredient}: {contrast.before} → {contrast.after}"


def gap(figure: Estimate) -> str:
    """Return a difference with its interval."""
    return f"{figure.mean:+.2f} [{figure.low:+.2f}, {figure.high:+.2f}]"


def spread(figure: Estimate) -> str:
    """Return the deviation over seeds, where there are several."""
    return f" ± {figure.spread:.2f}" if figure.seeds > 1 else ""


def effects_rich(result: Result, title: str) -> Table:
    """Return, for the terminal, what each ingredient brings; a difference whose interval leaves zero out is bold."""
    table = Table(title=title, caption=notes(result), caption_justify="left", title_justify="left")
    for name in ("changed", *titled(result)):
        table.add_column(name, overflow="fold", justify="left" if name == "changed" else "right")
    section = None
    for effect in result.effects:
        if effect.contrast.section != section:
            section = effect.contrast.section
            table.add_section()
            table.add_row(f"[italic]{section}[/]")
        figures = [effect.figures[metric] for metric in shown(result)]
        table.add_row(change(effect), *(f"[bold]{gap(f)}[/]" if f.differs else gap(f) for f in figures))
    return table


def values_rich(result: Result) -> Table:
    """Return, for the terminal, the mean of every combination."""
    table = Table(title="every combination, mean over seeds", title_justify="left")
    for place, name in enumerate([*Combination._fields, *titled(result)]):
        table.add_column(name, justify="left" if place < 4 else "right")
    head = None
    for item, figures in result.values.items():
        if head not in {None, item.head}:
            table.add_section()
        head = item.head
        table.add_row(*item, *(f"{figures[metric].mean:.1f}" for metric in shown(result)))
    if result.trivial:
        table.add_section()
    for line in _trivial(result):
        table.add_row(*line)
    return table


def notes(result: Result) -> str:
    """Return what a reader has to know."""
    equal = [" = ".join(methods) for methods in result.equal.values() if len(methods) > 1]
    law = f" The same map by law, computed once: {'; '.join(equal)}." if equal else ""
    figures = next(iter(result.values.values()))
    fewer = [
        f"{metric} {figures[metric].photos}" for metric in result.metrics if figures[metric].photos < result.photos
    ]
    top1 = f"; classifier's Top-1 {result.top1.mean:.1f}" if result.top1.photos else ""
    sample = f" ({', '.join(fewer)})" if fewer else ""
    return (
        f"percent points; n = {result.photos} photos{sample} x {result.seeds} seeds, {result.broken} photos broken; "
        f"{_choosing(result)} choose thresholds{top1}. "
        "Differences are paired by photo and seed; 95 % intervals draw photos and seeds, crossed (pigeonhole "
        f"bootstrap), bold where they leave zero out; ±: deviation over seeds alone.{law}"
    )


def as_markdown(result: Result, about: dict[str, Any], *, picture: bool = False) -> str:
    """Return both tables with command, heads and notes, below the picture if there is one."""
    metrics = shown(result)
    effects, section = [["changed", *titled(result)], ["---"] + ["---:"] * len(metrics)], None
    for effect in result.effects:
        if effect.contrast.section != section:
            section = effect.contrast.section
            effects.append([f"*{section}*", *[""] * len(metrics)])
        figures = [effect.figures[metric] for metric in metrics]
        effects.append([change(effect), *((f"**{gap(f)}**" if f.differs else gap(f)) + spread(f) for f in figures)])
    values = [[*Combination._fields, *titled(result)], ["---"] * 4 + ["---:"] * len(metrics)]
    for item, found in result.values.items():
        values.append([*item, *(f"{f.mean:.1f} [{f.low:.1f}, {f.high:.1f}]" for f in map(found.get, metrics) if f)])
    values += _trivial(result)
    image = f"![What each change brings, with intervals]({PICTURE})\n\n" if picture else ""
    return (
        f"`{about.get('command', '')}`\n\n{about.get('selection', '')}.\n\n{image}### What each ingredient brings\n\n"
        f"{_lines(effects)}\n\n{notes(result)}\n\n### The heads\n\n{_lines(_heads(result))}\n\n"
        f"### Every combination\n\n{_lines(values)}\n"
    )


def effects_csv(result: Result) -> str:
    """Return one line per change and metric."""
    rows = (
        [c.section, c.ingredient, c.before, c.after, len(c.pairs), metric, *_numbers(figure)]
        for effect in result.effects
        for c in (effect.contrast,)
        for metric, figure in effect.figures.items()
    )
    return _csv(["section", "ingredient", "before", "after", "pairs", "metric"], rows)


def values_csv(result: Result) -> str:
    """Return one line per combination and metric; methods equal by law have theirs."""
    rows = (
        [item.head, method, item.sign, item.normalization, metric, *_numbers(figure)]
        for item, figures in result.values.items()
        for method in result.equal.get(item.method, (item.method,))
        for metric, figure in figures.items()
    )
    return _csv([*Combination._fields, "metric"], rows)


def as_json(result: Result, about: dict[str, Any]) -> dict[str, Any]:
    """Return all figures as JSON values."""
    return {
        **about,
        "photos": result.photos,
        "seeds": result.seeds,
        "choosing": result.choosing,
        "broken": result.broken,
        "top1": _plain(result.top1),
        "equal": result.equal,
        "lower_is_better": sorted(result.lower),
        "trivial": {
            name: {metric: asdict(interval) for metric, interval in figures.items()}
            for name, figures in result.trivial.items()
        },
        "rows": {name: asdict(facts) for name, facts in result.rows.items()},
        "effects": [
            {
                "section": effect.contrast.section,
                "ingredient": effect.contrast.ingredient,
                "before": effect.contrast.before,
                "after": effect.contrast.after,
                "pairs": [[one._asdict(), other._asdict()] for one, other in effect.contrast.pairs],
                "metrics": {metric: _plain(figure) for metric, figure in effect.figures.items()},
            }
            for effect in result.effects
        ],
        "values": [
            {**item._asdict(), "metrics": {metric: _plain(figure) for metric, figure in figures.items()}}
            for item, figures in result.values.items()
        ],
    }


def _plain(figure: Estimate) -> dict[str, Any]:
    """Return the fields; no JSON has a NaN."""
    return {name: None if number != number else number for name, number in asdict(figure).items()}  # noqa: PLR0124


def _numbers(figure: Estimate) -> list[Any]:
    numbers = ["" if number is None else number for number in map(_plain(figure).get, NUMBERS)]
    return [*numbers, figure.photos, figure.seeds]


def _csv(names: Sequence[str], rows: Iterator[list[Any]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*names, *NUMBERS, "photos", "seeds"])
    writer.writerows(rows)
    return stream.getvalue()


def _heads(result: Result) -> list[list[str]]:
    """Return what each head is, and what became of its rows."""
    table = [["head", "what it is", "mean row, % of a row", "weights above 0, %"], ["---", "---", "---:", "---:"]]
    for name in dict.fromkeys(item.head for item in result.values):
        facts = result.rows.get(name)
        numbers = ["", ""] if facts is None else [f"{facts.mean_row:.1f}", f"{facts.positive:.1f}"]
        table.append([f"`{name}`", HEADS[name].told, *numbers])
    return table


def _trivial(result: Result) -> list[list[str]]:
    return [
        [name, "", "", "", *(f"{figures[metric].mean:.1f}" if metric in figures else "" for metric in shown(result))]
        for name, figures in result.trivial.items()
    ]


def _choosing(result: Result) -> str:
    counts = dict.fromkeys(result.choosing)
    return " / ".join(map(str, counts))


def _lines(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
