"""Localization metrics are found by listing a folder: one new file is one new figure everywhere."""

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dualcam.cli.main import run
from dualcam.evaluation import localization
from dualcam.evaluation.fields import STANDARD, added_fields
from dualcam.evaluation.records import DONE, blank_record, record_type
from dualcam.evaluation.summary import summarize
from tests.conftest import ROOT
from tests.evaluation.test_summary import COUNT, EVEN, ODD
from tests.evaluation.test_summary import GRID as CELLS
from tests.photos_on_disk import write_squares

MISSED = '''
"""The share of photos whose peak lies beside every true box."""

import numpy as np

from dualcam.evaluation.localization import Centered, Field, LocalizationMetric, Recorded, Scored
from dualcam.evaluation.sight import Sight


def beside(sight: Sight) -> "np.ndarray":
    row, column = divmod(int(sight.values.argmax()), sight.values.shape[1])
    inside = any(x0 <= column < x1 and y0 <= row < y1 for x0, y0, x1, y1 in sight.boxes)
    return np.full(len(sight.flat), not inside) | sight.flat


FIELD = Field("beside", np.float32, beside, "boxes", blank=float("nan"))
LOCALIZATION = LocalizationMetric(
    title="missed",
    fields=(FIELD,),
    score=lambda cell: Scored(100.0 * cell.shown(FIELD), {"missed at": 0.25}),
    center=lambda boxes: 100.0 * ~boxes.reaches(0.5),
    better="lower",
)
'''
POOLED = '''
"""The share of all foreground pixels that score at least 0.5."""

from dualcam.evaluation.fields import PIXELS
from dualcam.evaluation.localization import LocalizationMetric, Scored

LOCALIZATION = LocalizationMetric(
    title="covered",
    fields=(PIXELS,),
    score=lambda cell: Scored(cell.shown(PIXELS)),
    pool=lambda sums: 100 * sums[:, 1, 500:].sum(1) / sums[:, 1].sum(1),
)
'''
GRID = ["--method", "cam", "--branch", "softmax", "softmax-centered", "--normalize", "minmax", "max"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose files stand among the localization metrics."""
    folder = tmp_path / "metrics"
    folder.mkdir()
    monkeypatch.setattr(localization, "__path__", [*localization.__path__, str(folder)])
    yield folder
    for file in folder.glob("*.py"):
        sys.modules.pop(f"{localization.__name__}.{file.stem}", None)
    localization.available.cache_clear()


def add(folder: Path, name: str, text: str) -> None:
    (folder / f"{name}.py").write_text(text, encoding="utf-8")
    localization.available.cache_clear()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Twelve photos with a bright square each, and its box as WSOL metadata has it."""
    return write_squares(tmp_path / "data", 12)


def test_one_file_is_a_figure_with_an_interval_in_all_tables(
    folder: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What misses is what does not point, so every figure of the new metric is known from an old one."""
    add(folder, "missed", MISSED)
    out = tmp_path / "out"
    assert run(["evaluate", str(data), "-o", str(out), *GRID]) == 0
    assert "missed ↓" in capsys.readouterr().out
    assert "missed ↓" in (out / "results.md").read_text(encoding="utf-8")
    assert r"missed $\downarrow$" in (out / "results.tex").read_text(encoding="utf-8")
    result = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert result["better"]["missed"] == "lower"
    assert result["center_box"]["missed"]["mean"] == pytest.approx(100 - result["center_box"]["MaxBoxAcc"]["mean"])
    for cell in result["cells"]:
        new, old = cell["metrics"]["missed"], cell["metrics"]["pointing"]
        assert new["value"]["n"] == old["value"]["n"] == result["n"]
        assert new["value"]["mean"] == pytest.approx(100 - old["value"]["mean"])
        assert new["value"]["low"] == pytest.approx(100 - old["value"]["high"])
        assert new["value"]["high"] == pytest.approx(100 - old["value"]["low"])
        assert cell["thresholds"]["missed at"] == 0.25
    values = [cell["metrics"]["missed"]["value"] for cell in result["cells"]]
    assert any(value["low"] < value["mean"] < value["high"] for value in values)
    assert result["cells"][-1]["metrics"]["missed"]["over_softmax"] is not None
    lines = list(csv.DictReader((out / "results.csv").read_text(encoding="utf-8").splitlines()))
    own = [line for line in lines if line["metric"] == "missed"]
    assert len(own) == len(lines) / len(result["better"])
    assert all(line["better"] == "lower" and float(line["value_low"]) <= float(line["value_high"]) for line in own)


def test_a_file_of_records_without_the_metric_is_not_taken_for_one_with_it(
    folder: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["evaluate", str(data), "-o", str(tmp_path / "out"), *GRID]
    assert run(arguments) == 0
    add(folder, "missed", MISSED)
    assert run(arguments) == 2
    assert "added was None, now ['beside']" in capsys.readouterr().err
    assert run([*arguments, "--overwrite"]) == 0
    (folder / "missed.py").unlink()
    localization.available.cache_clear()
    assert run(arguments) == 2


def test_a_pooled_figure_of_standard_fields_changes_no_record(folder: Path) -> None:
    plain = record_type(2, 2, masks=True)
    add(folder, "covered", POOLED)
    assert record_type(2, 2, masks=True) == plain
    rows = np.zeros(COUNT, plain)
    rows["status"], rows["center"] = DONE, 0.5
    rows["pixels"] = np.random.default_rng(0).integers(0, 50, rows["pixels"].shape)
    summary = summarize(CELLS, rows, EVEN, ODD)
    for row in summary.rows:
        counts = rows["pixels"][ODD][:, *CELLS.position(row.cell), 1].astype(np.int64)
        value = row.figures["covered"].value
        assert value.mean == pytest.approx(100 * counts[:, 500:].sum() / counts.sum())
        assert value.low < value.mean < value.high


def test_the_docs_figure_is_one(folder: Path) -> None:
    page = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    snippets = [part.partition("```")[0] for part in page.split("```python\n")[1:]]
    (snippet,) = (part for part in snippets if "LOCALIZATION" in part)
    add(folder, "documented", snippet)
    rows = np.zeros(COUNT, record_type(2, 2, masks=False))
    rows["status"], rows["center"] = DONE, 0.8
    rows["best"] = np.random.default_rng(1).random(rows["best"].shape)
    summary = summarize(CELLS, rows, EVEN, ODD)
    for row in summary.rows:
        share = (rows["best"][ODD][:, *CELLS.position(row.cell)] >= 0.7).mean()
        assert row.figures["could reach 0.7"].value.mean == pytest.approx(100 * share)
    assert summary.center["could reach 0.7"].mean == 100


def test_the_record_has_the_fields_that_metrics_read_and_its_own_order(folder: Path) -> None:
    names = record_type(2, 3, masks=True, fidelity=["road"]).names
    assert names is not None
    assert names[:10] == ("status", "rank", "predicted", "any", "largest", "best", "fixed", "peak", "center", "pixels")
    assert names[10:] == ("explained", "score", "fidelity", "trivial")
    assert not added_fields()
    add(folder, "missed", MISSED)
    kind = record_type(2, 3, masks=False)
    assert (kind.names or ())[-1] == "beside"
    record = blank_record(kind)
    assert np.isnan(record["beside"]).all()
    assert not record["any"].any()


def test_metrics_stand_in_their_order_and_where_truth_is() -> None:
    boxes = ["MaxBoxAccV2", "MaxBoxAcc", "GT-known Loc", "Top-1 Loc", "Top-5 Loc", "best IoU", "pointing"]
    masks = ["PxAP", "mask IoU"]
    assert list(localization.applicable(boxes=True, masks=True)) == boxes + masks
    assert list(localization.applicable(boxes=True, masks=False)) == boxes
    assert list(localization.applicable(boxes=False, masks=True)) == masks
    assert not localization.applicable(boxes=False, masks=False)
    read = {field for metric in localization.available().values() for field in metric.fields}
    assert read == set(STANDARD)
