"""Records to figures, against obvious code."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dualcam.errors import CheckpointError
from dualcam.evaluation.cells import Cell, Grid, MapKind
from dualcam.evaluation.levels import CUTS
from dualcam.evaluation.records import BROKEN, DONE, Records, clear, record_type
from dualcam.evaluation.summary import Summary, summarize
from dualcam.evaluation.tables import as_csv, as_json, as_latex, as_markdown, write_tables
from dualcam.metrics.localization import V1_DELTAS, V2_DELTAS
from dualcam.metrics.packed_hits import pack_hits

KINDS = (
    MapKind("cam", "softmax", "signed"),
    MapKind("grad-cam", "softmax", "signed"),
    MapKind("cam", "sigmoid", "signed"),
    MapKind("grad-cam", "sigmoid", "signed"),
)
GRID = Grid(KINDS, ("minmax", "max"), {kind: kind._replace(method="cam") for kind in KINDS})
COUNT = 40
EVEN, ODD = np.arange(0, COUNT, 2), np.arange(1, COUNT, 2)


@pytest.fixture(scope="module")
def ious() -> NDArray[np.float64]:
    """IoUs [N, computed kinds, normalizations, cuts] that rise and fall over the cuts."""
    generator = np.random.default_rng(5)
    place, height = generator.uniform(0.2, 0.8, (2, COUNT, 2, 2, 1))
    return np.asarray(np.clip(height + 0.2 - np.abs(np.linspace(0, 1, CUTS) - place), 0, 1))


@pytest.fixture(scope="module")
def records(ious: NDArray[np.float64]) -> NDArray[Any]:
    rows = np.zeros(COUNT, record_type(2, 2, masks=True))
    generator = np.random.default_rng(6)
    rows["status"], rows["rank"] = DONE, generator.integers(0, 7, COUNT)
    rows["any"], rows["largest"] = pack_hits(ious, V2_DELTAS), pack_hits(ious, V1_DELTAS)
    rows["best"], rows["fixed"] = ious.max(-1), ious[..., 51]
    rows["peak"] = generator.random((COUNT, 2, 2)) > 0.3
    rows["center"] = generator.random((COUNT, rows["center"].shape[1]))
    rows["pixels"] = generator.integers(0, 50, rows["pixels"].shape)
    return rows


@pytest.fixture(scope="module")
def summary(records: NDArray[Any]) -> Summary:
    return summarize(GRID, records, EVEN, ODD)


def test_thresholds_come_from_the_choosing_photos_only(summary: Summary, ious: NDArray[np.float64]) -> None:
    for row in summary.rows:
        at = GRID.position(row.cell)
        values = []
        for delta in V2_DELTAS:
            cut = int((ious[EVEN][:, at[0], at[1]] >= delta).mean(0).argmax())
            values.append((ious[ODD][:, at[0], at[1], cut] >= delta).mean())
            assert row.thresholds[f"MaxBoxAccV2 at {delta:g}"] == pytest.approx(cut / 255)
        assert row.figures["MaxBoxAccV2"].value.mean == pytest.approx(100 * np.mean(values))


def test_localization_needs_the_right_class(summary: Summary, ious: NDArray[np.float64], records: NDArray[Any]) -> None:
    row, rank = summary.rows[0], records["rank"][ODD]
    known = ious[ODD][:, 0, 0, 51] >= 0.5
    assert row.figures["GT-known Loc"].value.mean == pytest.approx(100 * known.mean())
    assert row.figures["Top-1 Loc"].value.mean == pytest.approx(100 * (known & (rank == 0)).mean())
    assert row.figures["Top-5 Loc"].value.mean == pytest.approx(100 * (known & (rank < 5)).mean())
    assert summary.top1.mean == pytest.approx(100 * (rank == 0).mean())


def test_differences_are_paired(summary: Summary) -> None:
    cells = {row.cell: row for row in summary.rows}
    assert list(cells) == [Cell(KINDS[place], how) for place in (0, 2) for how in GRID.normalizations]
    for metric in summary.metrics:
        for how in GRID.normalizations:
            ours, theirs = cells[Cell(KINDS[2], how)].figures[metric], cells[Cell(KINDS[0], how)].figures[metric]
            assert ours.over_softmax is not None
            assert theirs.over_softmax is None
            assert ours.over_softmax.mean == pytest.approx(ours.value.mean - theirs.value.mean, abs=1e-9)
            assert ours.over_softmax.low <= ours.over_softmax.mean <= ours.over_softmax.high
    assert summary.rows[0].figures["PxAP"].over_plain is None


def test_same_cells_are_named(summary: Summary) -> None:
    assert summary.rows[0].same == (KINDS[1],)
    lines = as_csv(summary).splitlines()
    assert len(lines) == 1 + len(GRID.cells) * len(summary.metrics)
    assert any(line.endswith("softmax cam") and line.startswith("softmax,grad-cam") for line in lines)
    assert "cam = grad-cam" in as_markdown(summary, {"command": "dualcam evaluate"})


def test_photos_without_a_record_count_as_broken(records: NDArray[Any]) -> None:
    rows = records.copy()
    rows["status"][[1, 2, 3]] = BROKEN
    summary = summarize(GRID, rows, EVEN, ODD)
    assert (summary.broken, summary.reported, summary.choosing) == (3, len(ODD) - 2, len(EVEN) - 1)


def test_shards_add_up(records: NDArray[Any], tmp_path: Path) -> None:
    """Two processes that write half of the photos each leave what one leaves."""
    run = {"settings": {"a": 1}}
    for shard in (EVEN, ODD):
        part = Records(tmp_path / "two", run, records.dtype, COUNT)
        for photo in shard.tolist():
            part.put(photo, records[photo])
    whole = Records(tmp_path / "one", run, records.dtype, COUNT)
    for photo in range(COUNT):
        whole.put(photo, records[photo])
    assert not len(whole.pending())
    both = [
        summarize(GRID, each.rows, EVEN, ODD) for each in (Records(tmp_path / "two", run, records.dtype, COUNT), whole)
    ]
    assert as_json(both[0], {}) == as_json(both[1], {})


def test_other_settings_are_refused(records: NDArray[Any], tmp_path: Path) -> None:
    Records(tmp_path, {"settings": {"size": 224}}, records.dtype, COUNT).fail(3)
    again = Records(tmp_path, {"settings": {"size": 224}}, records.dtype, COUNT)
    assert again.rows["status"][3] == BROKEN
    assert 3 in again.pending()
    with pytest.raises(CheckpointError, match="288"):
        Records(tmp_path, {"settings": {"size": 288}}, records.dtype, COUNT)
    clear(tmp_path)
    Records(tmp_path, {"settings": {"size": 288}}, records.dtype, COUNT)


def test_files_are_written(summary: Summary, tmp_path: Path) -> None:
    files = write_tables(tmp_path, summary, {"command": "dualcam evaluate DATA", "selection": "even"})
    assert [file.name for file in files] == ["results.json", "results.csv", "results.md", "results.tex"]
    assert as_latex(summary).count(r"\\") == 2 + len(summary.rows)
    assert r"\%" not in as_latex(summary).splitlines()[0]


def test_a_photos_labels_are_drawn_together(records: NDArray[Any], summary: Summary) -> None:
    """Every photo has four labels of equal records: the figures stay, and so do their intervals."""
    rows = np.repeat(records, 4)
    numbers = np.repeat(np.arange(COUNT), 4)
    even, odd = (np.flatnonzero(numbers % 2 == parity) for parity in (0, 1))
    together, apart = summarize(GRID, rows, even, odd, numbers=numbers), summarize(GRID, rows, even, odd)
    assert (together.reported, together.photos, apart.photos, summary.photos) == (80, 20, 80, 20)
    widths = []
    for plain, joint, narrow in zip(summary.rows, together.rows, apart.rows, strict=True):
        for metric in summary.metrics:
            told, ours, theirs = (row.figures[metric].value for row in (plain, joint, narrow))
            assert (ours.mean, ours.low, ours.high) == pytest.approx((told.mean, told.low, told.high))
            widths.append((ours.high - ours.low, theirs.high - theirs.low))
    spread = [(ours, theirs) for ours, theirs in widths if theirs]
    assert len(spread) > len(widths) / 2
    assert all(ours > 1.5 * theirs for ours, theirs in spread)
    assert together.top1.low == pytest.approx(summary.top1.low)
    assert together.center["best IoU"].high == pytest.approx(summary.center["best IoU"].high)
    assert "n = 80 reported (labels of 20 photos, drawn photo by photo)" in as_markdown(together, {})
    assert "labels of" not in as_markdown(summary, {})
    assert as_json(together, {})["photos"] == 20
    same = summarize(GRID, records, EVEN, ODD, numbers=np.random.default_rng(0).permutation(COUNT))
    assert as_json(same, {}) == as_json(summary, {})
