"""A summary as tables: for the terminal, CSV, Markdown, LaTeX and JSON."""

import csv
import io
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from dualcam.evaluation.summary import Figure, Row, Summary
from dualcam.files import write_json, write_whole
from dualcam.metrics.bootstrap import Interval

DIFFERENCES = ("MaxBoxAccV2", "Top-1 Loc", "PxAP", "mask IoU")
"""Metrics whose difference to the softmax branch stands in the narrow tables; the files have all."""


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


def header(summary: Summary) -> list[str]:
    """Return the column names of the narrow tables."""
    names = ["branch", "method", "sign", "normalize"]
    for metric in summary.metrics:
        names.append(metric)
        if metric in DIFFERENCES:
            names.append("over softmax")
    return names


def line(row: Row, summary: Summary) -> list[str]:
    """Return a row of the narrow tables."""
    kind = row.cell.kind
    also = dict.fromkeys(each.method for each in row.same if each.branch == kind.branch)
    branches = dict.fromkeys(each.branch for each in (kind, *row.same) if each.method == kind.method)
    text = [" = ".join(branches), " = ".join([kind.method, *also]), kind.sign, row.cell.normalization]
    for metric in summary.metrics:
        figure = row.figures[metric]
        text.append(f"{figure.value.mean:.1f}")
        if metric in DIFFERENCES:
            text.append(gap(figure.over_softmax))
    return text


def gap(interval: Interval | None) -> str:
    """Return a signed difference with its interval."""
    if interval is None:
        return ""
    return f"{interval.mean:+.2f} [{interval.low:+.2f}, {interval.high:+.2f}]"


def center_line(summary: Summary) -> list[str]:
    """Return the centre box's row."""
    text = ["centre box", "", "", ""]
    for metric in summary.metrics:
        text.append(f"{summary.center[metric].mean:.1f}" if metric in summary.center else "")
        if metric in DIFFERENCES:
            text.append("")
    return text


def as_rich(summary: Summary, title: str) -> Table:
    """Return the table for the terminal."""
    same = dict.fromkeys(line(row, summary)[1] for row in summary.rows)
    equal = " ".join(f"By law {methods}." for methods in same if " = " in methods)
    caption = f"{notes(summary)} {equal}"
    table = Table(title=title, caption=caption, caption_justify="left", title_justify="left")
    for position, name in enumerate(header(summary)):
        table.add_column(name, justify="left" if position < 4 else "right", overflow="fold")
    last = None
    for row in summary.rows:
        if last not in {None, row.cell.kind.branch}:
            table.add_section()
        last = row.cell.kind.branch
        kind, also, *numbers = line(row, summary)
        first, *others = also.split(" = ")
        table.add_row(kind, f"{first} (+{len(others)})" if others else first, *numbers)
    if summary.center:
        table.add_section()
        table.add_row(*center_line(summary))
    return table


def notes(summary: Summary) -> str:
    """Return what a reader has to know."""
    return (
        f"percent; n = {summary.reported} reported, {summary.choosing} choose thresholds, {summary.broken} broken; "
        f"classifier: Top-1 {summary.top1:.1f}, Top-5 {summary.top5:.1f}. 'over softmax': the same cell's difference "
        "to the softmax branch, 95 % paired bootstrap interval. 'a = b': the same map by law, computed once."
    )


def as_markdown(summary: Summary, about: dict[str, Any]) -> str:
    """Return a Markdown table with its command and notes."""
    names = header(summary)
    rows = [names, ["---"] * 4 + ["---:"] * (len(names) - 4), *(line(row, summary) for row in summary.rows)]
    if summary.center:
        rows.append(center_line(summary))
    body = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return f"`{about.get('command', '')}`\n\n{body}\n\n{notes(summary)}\n\n{about.get('selection', '')}.\n"


def as_latex(summary: Summary) -> str:
    """Return a LaTeX tabular (package booktabs)."""
    names = header(summary)
    lines = [" & ".join(map(_latex, line(row, summary))) + r" \\" for row in summary.rows]
    if summary.center:
        lines += [r"\midrule", " & ".join(map(_latex, center_line(summary))) + r" \\"]
    return "\n".join(
        [
            "% " + notes(summary),
            rf"\begin{{tabular}}{{llll{'r' * (len(names) - 4)}}}",
            r"\toprule",
            " & ".join(map(_latex, names)) + r" \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def _latex(text: str) -> str:
    for mark in "&%_#":
        text = text.replace(mark, "\\" + mark)
    return text


def as_csv(summary: Summary) -> str:
    """Return one line per cell and metric, with intervals and both differences."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    names = ["branch", "method", "sign", "normalize", "metric", "n"]
    for what in ("value", "over_plain", "over_softmax"):
        names += [what, f"{what}_low", f"{what}_high"]
    writer.writerow([*names, "same_as"])
    for row in summary.rows:
        kind = row.cell.kind
        for member in (kind, *row.same):
            for metric, figure in row.figures.items():
                numbers: list[float | str] = []
                for interval in (figure.value, figure.over_plain, figure.over_softmax):
                    numbers += ["", "", ""] if interval is None else [interval.mean, interval.low, interval.high]
                same = "" if member == kind else f"{kind.branch} {kind.method}"
                name = [member.branch, member.method, member.sign, row.cell.normalization, metric]
                writer.writerow([*name, figure.value.n, *numbers, same])
    return stream.getvalue()


def as_json(summary: Summary, about: dict[str, Any]) -> dict[str, Any]:
    """Return all figures as JSON values."""
    return {
        **about,
        "n": summary.reported,
        "choosing": summary.choosing,
        "broken": summary.broken,
        "top1": asdict(summary.top1),
        "top5": asdict(summary.top5),
        "center_box": {metric: asdict(interval) for metric, interval in summary.center.items()},
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
