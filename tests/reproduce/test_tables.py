"""The table's lines are the results' own figures, beside the published ones."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from dualcam.errors import CheckpointError
from dualcam.reproduce.plan import Place
from dualcam.reproduce.recipe import recipes
from dualcam.reproduce.run import notes
from dualcam.reproduce.tables import as_rich, cells, header, read_lines, write_tables

METRICS = ("Average Drop", "Increase in Confidence", "Top-1 Loc", "GT-known Loc", "MaxBoxAccV2")


def interval(mean: float) -> dict[str, float]:
    return {"mean": mean, "low": mean - 1, "high": mean + 2, "n": 50}


def cell(branch: str, sign: str, value: float, gap: float | None, suffix: str = "") -> dict[str, Any]:
    figure = {
        "value": interval(value),
        "over_plain": None if gap is None else interval(gap),
        "over_softmax": None if gap is None else interval(gap / 5),
    }
    kind = {"branch": branch, "method": "cam", "sign": sign}
    return {**kind, "normalize": "minmax", "same": [], "metrics": {name + suffix: figure for name in METRICS}}


def write(folder: Path, *cells: dict[str, Any]) -> None:
    folder.mkdir(parents=True)
    content = {
        "top1": interval(70.0),
        "center_box": {"Top-1 Loc": interval(33.0)},
        "trivial": {"centre blob": {"Average Drop": interval(20.0)}},
        "cells": list(cells),
    }
    (folder / "results.json").write_text(json.dumps(content), encoding="utf-8")


def usual() -> list[dict[str, Any]]:
    return [
        cell("softmax", "signed", 40.0, None),
        cell("softmax", "positive", 41.0, 1.0),
        cell("softmax-centered", "signed", 42.0, 2.0),
        cell("sigmoid", "positive", 45.0, 5.0),
    ]


def test_base_dual_difference_and_published(tmp_path: Path) -> None:
    recipe, place = recipes()["cub-resnet50-cam"], Place(tmp_path, tmp_path)
    write(place.results(recipe, "cam", fidelity=True), *usual())
    drop, increase = read_lines(recipe, place, "table1")
    assert (drop.metric, increase.metric) == ("Average Drop", "Increase in Confidence")
    assert (drop.base.mean, drop.dual.mean, drop.dual.n) == (40.0, 45.0, 50)
    assert drop.difference is not None
    assert (drop.difference.mean, drop.difference.low) == (5.0, 4.0)
    assert drop.published == (44.17, 13.86)
    assert drop.others == {"clamp alone": 41.0, "centered": 42.0, "centre blob": 20.0}
    assert increase.others == {"clamp alone": 41.0, "centered": 42.0}
    files = write_tables(tmp_path, "table1", [drop, increase], "notes")
    rows = list(csv.reader((tmp_path / "table1.csv").read_text(encoding="utf-8").splitlines()))
    assert rows[1][-2:] == ["44.17 -> 13.86", "-4.17 -> +31.14"]
    assert rows[1][7:12] == ["+1.00 [+0.00, +3.00]", "50", "41.00", "42.00", "20.00"]
    assert "| +5.00 [+4.00, +7.00] | +1.00 [+0.00, +3.00] | 50 |" in (tmp_path / "table1.md").read_text(
        encoding="utf-8"
    )
    assert [path.suffix for path in files] == [".json", ".csv", ".md"]


def test_the_classifier_is_the_same_before_and_after(tmp_path: Path) -> None:
    recipe, place = recipes()["imagenet-resnet50-cam"], Place(tmp_path, tmp_path)
    write(place.results(recipe, "cam", fidelity=False), *usual())
    first, *rest = read_lines(recipe, place, "table2")
    assert first.metric == "Top-1 Cls"
    assert first.base == first.dual
    assert [line.metric for line in rest] == ["Top-1 Loc", "GT-known Loc", "MaxBoxAccV2"]
    assert rest[0].others["centre box"] == 33.0
    assert "centre box" not in rest[1].others


def test_columns_of_published_figures_are_there_where_any_are(tmp_path: Path) -> None:
    recipe, place = recipes()["cub-resnet50-cam"], Place(tmp_path, tmp_path)
    write(place.results(recipe, "cam", fidelity=True), *usual())
    for table, columns in (("table1", 14), ("small", 12)):
        lines = read_lines(recipe, place, table)
        assert len(header(lines)) == columns
        write_tables(tmp_path, table, lines, "notes")
        rows = list(csv.reader((tmp_path / f"{table}.csv").read_text(encoding="utf-8").splitlines()))
        assert {len(row) for row in rows} == {columns}
        assert len(as_rich(lines, table, "notes").columns) == columns


def test_a_scorer_of_its_own_leaves_no_paired_difference(tmp_path: Path) -> None:
    recipe, place = recipes()["cub-resnet50-cam"], Place(tmp_path, tmp_path, as_published=True)
    assert place.folder(recipe) != Place(tmp_path, tmp_path).folder(recipe)
    write(place.results(recipe, "cam", fidelity=True), *usual())
    own = place.results(recipe, "cam", fidelity=True, own_scorer=True)
    write(own, cell("sigmoid", "positive", 12.0, None, " (sigmoid)"))
    content = json.loads((own / "results.json").read_text(encoding="utf-8"))
    content["trivial"]["centre blob"] = {"Average Drop (sigmoid)": interval(30.0)}
    (own / "results.json").write_text(json.dumps(content), encoding="utf-8")
    drop, _ = read_lines(recipe, place, "table1")
    assert (drop.base.mean, drop.dual.mean, drop.difference, drop.over_clamp) == (40.0, 12.0, None, None)
    assert drop.others["dual branch, scored by softmax"] == 45.0
    assert drop.others["centre blob, scored by sigmoid"] == 30.0
    assert cells(drop)["dual branch, scored by softmax"] == "45.00"
    assert header([drop])[-4:-2] == ["dual branch, scored by softmax", "centre blob, scored by sigmoid"]


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    recipe, place = recipes()["cub-resnet50-cam"], Place(tmp_path, tmp_path)
    assert read_lines(recipe, place, "table1") == []
    write(place.results(recipe, "cam", fidelity=True), cell("softmax", "signed", 40.0, None))
    with pytest.raises(CheckpointError, match="sigmoid positive"):
        read_lines(recipe, place, "table1")
    file = place.results(recipe, "cam", fidelity=True) / "results.json"
    file.write_text("{", encoding="utf-8")
    with pytest.raises(CheckpointError, match="no result of"):
        read_lines(recipe, place, "table1")


def test_no_minus_stands_before_zero(tmp_path: Path) -> None:
    recipe, place = recipes()["cub-resnet50-cam"], Place(tmp_path, tmp_path)
    cells_of = [cell("softmax", "signed", 40.0, None), *usual()[1:3], cell("sigmoid", "positive", 45.0, -0.001)]
    write(place.results(recipe, "cam", fidelity=True), *cells_of)
    assert cells(read_lines(recipe, place, "table1")[0])["difference"].startswith("+0.00 [")


def test_notes_speak_of_published_figures_where_there_are_any(tmp_path: Path) -> None:
    recipe, place = recipes()["cub-resnet50-cam"], Place(tmp_path, tmp_path)
    write(place.results(recipe, "cam", fidelity=True), *usual())
    assert "predecessor" in notes(place, read_lines(recipe, place, "table1"))
    told = notes(place, read_lines(recipe, place, "small"), ["CARS"])
    assert "predecessor" not in told
    assert told.endswith("NOT MEASURED: CARS.")
