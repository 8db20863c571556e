"""Published and measured figures side by side."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.table import Table

from dualcam.errors import CheckpointError
from dualcam.files import write_json, write_whole
from dualcam.metrics.bootstrap import Interval
from dualcam.reproduce.plan import Place
from dualcam.reproduce.published import Pair, caveat, published
from dualcam.reproduce.recipe import Recipe

TOP1 = "Top-1 Cls"
USUAL = (
    *(TOP1, "Average Drop", "Complexity", "Increase in Confidence", "Average Gain"),
    *("Top-1 Loc", "GT-known Loc", "MaxBoxAccV2", "PxAP"),
)
"""Metrics of a table that nobody has published, as far as they were measured."""
NAMES = ("dataset", "backbone", "method", "metric")
BASELINES = (("clamp alone",), ("centered",), ("centre box", "centre blob"))
"""Columns of what needs no training, by what stands there: a metric has one of the last two."""
OWN_SCORER = ("dual branch, scored by softmax", "centre blob, scored by sigmoid")
"""What explains figures that the sigmoid branch scored itself: its maps before the base's judge, no map before it."""
AGAINST = ("published", "measured less published")
LOWER = ("Average Drop", "Complexity")
"""Metrics that are better the lower they are."""


@dataclass(frozen=True)
class Line:
    """One metric of one method, in percent.

    ``base`` is the method on the softmax branch (signed), ``dual`` its positive evidence on the sigmoid branch,
    ``difference`` dual less base on the same photos, ``over_clamp`` dual less the clamp alone: what the trained branch
    brings. ``others`` are baselines that need no training, by name. ``published`` is None where no such figure is.
    """

    dataset: str
    backbone: str
    method: str
    metric: str
    base: Interval
    dual: Interval
    difference: Interval | None
    over_clamp: Interval | None
    others: dict[str, float]
    published: Pair | None


def read_lines(recipe: Recipe, place: Place, table: str) -> list[Line]:
    """Return the lines of ``recipe`` in ``table``, of the results that are on disk; raises `CheckpointError`."""
    lines = []
    for method in recipe.methods:
        known = published(table, recipe.dataset, recipe.backbone, method)
        file = place.results(recipe, method, fidelity=table != "table2") / "results.json"
        if not file.is_file():
            continue
        results = _read(file)
        own = place.results(recipe, method, fidelity=True, own_scorer=True) / "results.json"
        own_results = _read(own) if place.as_published and own.is_file() else None
        wanted = tuple(known) or tuple(name for name in USUAL if _has(results, name))
        for metric in wanted:
            line = _line(recipe, method, metric, results, known.get(metric))
            lines.append(line if own_results is None else _own_scorer(line, own_results))
    return lines


def write_tables(folder: Path, name: str, lines: Sequence[Line], notes: str) -> list[Path]:
    """Write ``name``.json, .csv and .md into ``folder``, each whole or not at all; return their paths."""
    paths = [folder / f"{name}.{ending}" for ending in ("json", "csv", "md")]
    write_json(paths[0], {"notes": notes, "caveat": caveat(), "lines": [asdict(line) for line in lines]})
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    names = header(lines)
    told = [_row(line, names) for line in lines]
    writer.writerows([names, *told])
    rows = [names, ["---"] * len(NAMES) + ["---:"] * (len(names) - len(NAMES)), *told]
    body = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    for path, text in zip(paths[1:], (stream.getvalue(), f"{body}\n\n{notes}\n"), strict=True):
        with write_whole(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return paths


def as_rich(lines: Sequence[Line], title: str, notes: str) -> Table:
    """Return the table for the terminal."""
    table = Table(title=title, caption=notes, title_justify="left", caption_justify="left")
    names = header(lines)
    for place, column in enumerate(names):
        table.add_column(column, justify="left" if place < len(NAMES) else "right")
    last = None
    for line in lines:
        row = (line.dataset, line.backbone, line.method)
        if last not in {None, row}:
            table.add_section()
        table.add_row(*_row(line, names))
        last = row
    return table


def header(lines: Sequence[Line]) -> list[str]:
    """Return the names of the columns; those that only some tables have stand last."""
    own = [name for name in OWN_SCORER if any(name in line.others for line in lines)]
    against = AGAINST if any(line.published for line in lines) else ()
    baselines = map(" or ".join, BASELINES)
    return [*NAMES, "base", "dual branch", "difference", "over clamp", "n", *baselines, *own, *against]


def cells(line: Line) -> dict[str, str]:
    """Return a line as text, by the names of its columns."""
    arrow = "↓" if line.metric in LOWER else "↑"
    found = dict(zip(NAMES, (line.dataset, line.backbone, line.method, f"{line.metric} {arrow}"), strict=True))
    found |= {"base": f"{line.base.mean:.2f}", "dual branch": f"{line.dual.mean:.2f}", "n": str(line.dual.n)}
    for name, gap in (("difference", line.difference), ("over clamp", line.over_clamp)):
        if gap is not None:
            found[name] = f"{_signed(gap.mean)} [{_signed(gap.low)}, {_signed(gap.high)}]"
    for names in (*BASELINES, *((name,) for name in OWN_SCORER)):
        found[" or ".join(names)] = "".join(f"{line.others[name]:.2f}" for name in names if name in line.others)
    pair = line.published
    if pair is not None:
        gaps = (_signed(line.base.mean - pair.base), _signed(line.dual.mean - pair.dual))
        found |= dict(zip(AGAINST, (f"{pair.base:.2f} -> {pair.dual:.2f}", " -> ".join(gaps)), strict=True))
    return found


def _row(line: Line, names: Sequence[str]) -> list[str]:
    told = cells(line)
    return [told.get(name, "") for name in names]


def _signed(value: float) -> str:
    return f"{round(value, 2) + 0.0:+.2f}"  # no minus before zero


def _line(recipe: Recipe, method: str, metric: str, results: dict[str, Any], pair: Pair | None) -> Line:
    row = (recipe.dataset, recipe.backbone, method, metric)
    if metric == TOP1:
        value = Interval(**results["top1"])
        none = Interval(0.0, 0.0, 0.0, value.n)
        return Line(*row, value, value, none, none, {}, pair)
    base, dual = (_cell(results, *kind)["metrics"][metric] for kind in (("softmax", "signed"), ("sigmoid", "positive")))
    others = {
        name: float(_cell(results, *kind)["metrics"][metric]["value"]["mean"])
        for name, kind in (("clamp alone", ("softmax", "positive")), ("centered", ("softmax-centered", "signed")))
    }
    unseeing = {"centre box": results.get("center_box"), "centre blob": results.get("trivial", {}).get("centre blob")}
    others |= {name: float(given[metric]["mean"]) for name, given in unseeing.items() if given and metric in given}
    none = Interval(0.0, 0.0, 0.0, dual["value"]["n"])
    plain, clamp = (none if dual[name] is None else Interval(**dual[name]) for name in ("over_plain", "over_softmax"))
    return Line(*row, Interval(**base["value"]), Interval(**dual["value"]), plain, clamp, others, pair)


def _own_scorer(line: Line, results: dict[str, Any]) -> Line:
    """Return ``line`` with the dual branch's figure as the sigmoid branch scored it: no difference can be paired."""
    name = f"{line.metric} (sigmoid)"
    value = _cell(results, "sigmoid", "positive")["metrics"].get(name)
    if value is None:
        return line
    figures = (line.dual.mean, results.get("trivial", {}).get("centre blob", {}).get(name, {}).get("mean"))
    told = {what: float(figure) for what, figure in zip(OWN_SCORER, figures, strict=True) if figure is not None}
    dual = Interval(**value["value"])
    return replace(line, dual=dual, difference=None, over_clamp=None, others=line.others | told)


def _has(results: dict[str, Any], metric: str) -> bool:
    return metric == TOP1 or metric in _cell(results, "sigmoid", "positive")["metrics"]


def _cell(results: dict[str, Any], branch: str, sign: str) -> dict[str, Any]:
    """Return the cell of a branch and sign, or the one that stands for it by law."""
    for cell in results["cells"]:
        members = [cell, *cell["same"]]
        if any((member["branch"], member["sign"]) == (branch, sign) for member in members):
            return dict(cell)
    raise CheckpointError(f"the results lack the cell {branch} {sign}; evaluate again")


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is no result of `dualcam evaluate` ({error})") from error
