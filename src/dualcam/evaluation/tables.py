"""A summary as tables: for the terminal, CSV, Markdown, LaTeX and JSON."""

import csv
import io
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table

from dualcam.evaluation.summary import Figure, Row, Summary
from dualcam.files import write_json, write_whole
from dualcam.metrics.bootstrap import Interval

DIFFERENCES = ("MaxBoxAccV2", "Top-1 Loc", "PxAP", "mask IoU", "Average Drop", "ADCC", "Insertion AUC")
"""Metrics whose difference to the softmax branch stands in the narrow tables; the files have all."""
WIDTH = 7
"""Fidelity metrics that stand in one narrow table."""
NAMES = ("branch", "method", "sign", "normalize")


class Part(NamedTuple):
    """A narrow table: metrics that belong together, and the figures of what looked at no photo, by name."""

    title: str
    metrics: tuple[str, ...]
    baselines: dict[str, dict[str, Interval]]


def parts(summary: Summary) -> list[Part]:
    """Return the narrow tables: localization, fidelity, each where it was measured."""
    center = {"centre box": summary.center} if summary.center else {}
    found = [Part("localization", summary.localization, center)] if summary.localization else []
    rows = range(0, len(summary.fidelity), WIDTH)
    return found + [Part("fidelity", summary.fidelity[start : start + WIDTH], summary.trivial) for start in rows]


def write_tables(folder: Path, summary: Summary, about: dict[str, Any]) -> list[Path]:
    """Write results.json, .csv, .md and .tex, each whole or not at all; return their paths."""
    files = {
        "results.csv": as_csv(summary),
        "results.md": as_markdown(summary, about),
        "results.tex": as_latex(summary),
    }
    write_json(folder / "results.json", as_json(summary, about))
    for name, text in files.items():
        with write_whole(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return [folder / "results.json", *(folder / name for name in files)]


def header(summary: Summary, part: Part) -> list[str]:
    """Return the column names of a narrow table; an arrow points to the better end."""
    names = list(NAMES)
    for metric in part.metrics:
        names.append(f"{metric} {'↓' if metric in summary.lower else '↑'}")
        if _shows_difference(metric):
            names.append("over softmax")
    return names


def line(row: Row, part: Part) -> list[str]:
    """Return a row of a narrow table."""
    kind = row.cell.kind
    also = dict.fromkeys(each.method for each in row.same if each.branch == kind.branch)
    branches = dict.fromkeys(each.branch for each in (kind, *row.same) if each.method == kind.method)
    text = [" = ".join(branches), " = ".join([kind.method, *also]), kind.sign, row.cell.normalization]
    for metric in part.metrics:
        figure = row.figures[metric]
        text.append(f"{figure.value.mean:.1f}")
        if _shows_difference(metric):
            text.append(gap(figure.over_softmax))
    return text


def _shows_difference(metric: str) -> bool:
    return metric.partition(" (")[0] in DIFFERENCES


def gap(interval: Interval | None) -> str:
    """Return a signed difference with its interval."""
    if interval is None:
        return ""
    return f"{interval.mean:+.2f} [{interval.low:+.2f}, {interval.high:+.2f}]"


def baseline_lines(part: Part) -> list[list[str]]:
    """Return the rows of what looked at no photo."""
    lines = []
    for name, figures in part.baselines.items():
        text = [name, "", "", ""]
        for metric in part.metrics:
            text.append(f"{figures[metric].mean:.1f}" if metric in figures else "")
            if _shows_difference(metric):
                text.append("")
        lines.append(text)
    return lines


def as_rich(summary: Summary, name: str, how: str) -> list[Table]:
    """Return the tables for the terminal; ``how`` says how boxes were judged."""
    titles = {"localization": f"{name}: {how}", "fidelity": f"{name}: fidelity"}
    return [_rich_part(summary, part, titles[part.title]) for part in parts(summary)]


def _rich_part(summary: Summary, part: Part, title: str) -> Table:
    same = dict.fromkeys(line(row, part)[1] for row in summary.rows)
    equal = " ".join(f"By law {methods}." for methods in same if " = " in methods)
    caption = f"{notes(summary, part)} {equal}"
    table = Table(title=title, caption=caption, caption_justify="left", title_justify="left")
    for position, name in enumerate(header(summary, part)):
        table.add_column(name, justify="left" if position < len(NAMES) else "right", overflow="fold")
    last = None
    for row in summary.rows:
        if last not in {None, row.cell.kind.branch}:
            table.add_section()
        last = row.cell.kind.branch
        kind, also, *numbers = line(row, part)
        first, *others = also.split(" = ")
        table.add_row(kind, f"{first} (+{len(others)})" if others else first, *numbers)
    table.add_section()
    for text in baseline_lines(part):
        table.add_row(*text)
    return table


def notes(summary: Summary, part: Part) -> str:
    """Return what a reader has to know."""
    choosing = f", {summary.choosing} choose thresholds" if summary.choosing else ""
    classifier = f"; classifier: Top-1 {summary.top1:.1f}, Top-5 {summary.top5:.1f}" if summary.top1.n else ""
    several = (
        "" if summary.photos == summary.reported else f" (labels of {summary.photos} photos, drawn photo by photo)"
    )
    told = (
        f"percent; n = {summary.reported} reported{several}{choosing}, {summary.broken} broken{classifier}. 'over "
        "softmax': the same cell's difference to the softmax branch, 95 % paired bootstrap interval. 'a = b': the same "
        "map by law, computed once. ↑ higher is better, ↓ lower."
    )
    if part.title != "fidelity":
        return told
    counts: dict[int, list[str]] = {}
    for metric in part.metrics:
        counts.setdefault(max(row.figures[metric].value.n for row in summary.rows), []).append(metric)
    measured = "; ".join(f"n = {count}: {', '.join(metrics)}" for count, metrics in counts.items())
    return f"{told} {summary.about_fidelity}; {measured}."


def as_markdown(summary: Summary, about: dict[str, Any]) -> str:
    """Return Markdown tables with their command and notes."""
    found = [f"`{about.get('command', '')}`"]
    for part in parts(summary):
        names = header(summary, part)
        rules = ["---"] * len(NAMES) + ["---:"] * (len(names) - len(NAMES))
        rows = [names, rules, *(line(row, part) for row in summary.rows), *baseline_lines(part)]
        found += ["\n".join("| " + " | ".join(row) + " |" for row in rows), notes(summary, part)]
    return "\n\n".join([*found, f"{about.get('selection', '')}.\n"])


def as_latex(summary: Summary) -> str:
    """Return LaTeX tabulars (package booktabs)."""
    return "\n".join(_latex_part(summary, part) for part in parts(summary))


def _latex_part(summary: Summary, part: Part) -> str:
    names = header(summary, part)
    lines = [" & ".join(map(_latex, line(row, part))) + r" \\" for row in summary.rows]
    below = [" & ".join(map(_latex, text)) + r" \\" for text in baseline_lines(part)]
    return "\n".join(
        [
            "% " + notes(summary, part),
            rf"\begin{{tabular}}{{llll{'r' * (len(names) - len(NAMES))}}}",
            r"\toprule",
            " & ".join(map(_latex, names)) + r" \\",
            r"\midrule",
            *lines,
            *([r"\midrule", *below] if below else []),
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def _latex(text: str) -> str:
    for mark in "&%_#":
        text = text.replace(mark, "\\" + mark)
    return text.replace("↓", r"$\downarrow$").replace("↑", r"$\uparrow$")


def as_csv(summary: Summary) -> str:
    """Return one line per cell and metric, with intervals and both differences."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    names = ["branch", "method", "sign", "normalize", "metric", "n"]
    for what in ("value", "over_plain", "over_softmax"):
        names += [what, f"{what}_low", f"{what}_high"]
    writer.writerow([*names, "better", "same_as"])
    for row in summary.rows:
        kind = row.cell.kind
        for member in (kind, *row.same):
            for metric, figure in row.figures.items():
                numbers: list[float | str] = []
                for interval in (figure.value, figure.over_plain, figure.over_softmax):
                    numbers += ["", "", ""] if interval is None else [interval.mean, interval.low, interval.high]
                same = "" if member == kind else f"{kind.branch} {kind.method}"
                name = [member.branch, member.method, member.sign, row.cell.normalization, metric]
                better = "lower" if metric in summary.lower else "higher"
                writer.writerow([*name, figure.value.n, *numbers, better, same])
    return stream.getvalue()


def as_json(summary: Summary, about: dict[str, Any]) -> dict[str, Any]:
    """Return all figures as JSON values."""
    return {
        **about,
        "n": summary.reported,
        "photos": summary.photos,
        "choosing": summary.choosing,
        "broken": summary.broken,
        "top1": asdict(summary.top1),
        "top5": asdict(summary.top5),
        "center_box": {metric: asdict(interval) for metric, interval in summary.center.items()},
        "trivial": {
            name: {metric: asdict(interval) for metric, interval in figures.items()}
            for name, figures in summary.trivial.items()
        },
        "better": {metric: "lower" if metric in summary.lower else "higher" for metric in summary.metrics},
        "fidelity": summary.about_fidelity,
        "baseline": summary.baseline,
        "cells": [
            {
                **row.cell.kind._asdict(),
                "normalize": row.cell.normalization,
                "same": [kind._asdict() for kind in row.same],
                "thresholds": row.thresholds,
                "metrics": {metric: _figure(figure) for metric, figure in row.figures.items()},
            }
            for row in summary.rows
        ],
    }


def _figure(figure: Figure) -> dict[str, Any]:
    return {
        "value": asdict(figure.value),
        "over_plain": None if figure.over_plain is None else asdict(figure.over_plain),
        "over_softmax": None if figure.over_softmax is None else asdict(figure.over_softmax),
    }
