"""The folder of results: lines, continuation, names of panels."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from dualcam.errors import CheckpointError
from dualcam.results import PhotoRecord, Results, read_records


def describe(**settings: Any) -> dict[str, Any]:
    return {
        "folder": str(Path.cwd()),
        "model": {"source": "a"},
        "settings": {"method": "cam", **settings},
        "scale": None,
        "versions": {},
    }


def record(photo: str, *, panel: str | None = "panels/a.png", error: str | None = None) -> PhotoRecord:
    return {"photo": photo, "error": error, "width": 4, "height": 3, "panel": panel, "classes": []}


def write(folder: Path, *records: PhotoRecord) -> None:
    with Results(folder, describe()) as results:
        for item in records:
            results.add(item)


def test_lines_come_back_as_they_were_added(tmp_path: Path) -> None:
    items = [record("a b.jpg"), record("Füße/猫.png"), record("x", panel=None, error='a "quoted" reason\nof two lines')]
    write(tmp_path, *items)
    assert list(read_records(tmp_path / "results.jsonl")) == items
    text = (tmp_path / "results.jsonl").read_text(encoding="utf-8")
    assert text.count("\n") == 3 and "猫" in text
    assert json.loads((tmp_path / "run.json").read_text())["results_version"] == 1


def test_a_name_that_is_no_utf8_stays_the_same_file(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    write(tmp_path, record(name))
    json.loads((tmp_path / "results.jsonl").read_text(encoding="utf-8"))
    assert [os.fsencode(item["photo"]) for item in read_records(tmp_path / "results.jsonl")] == [b"caf\xe9.jpg"]


@pytest.mark.parametrize("torn", [b'{"photo": "c', b'{"photo": "\xc3', b"\0\0\0", b"{}"])
def test_a_torn_last_line_is_cut_off(tmp_path: Path, torn: bytes) -> None:
    write(tmp_path, record("a.jpg"))
    lines = tmp_path / "results.jsonl"
    whole = lines.read_bytes()
    lines.write_bytes(whole + torn)
    with Results(tmp_path, describe()) as results:
        assert results.is_done("a.jpg")
        assert not results.is_done("c")
        results.add(record("b.jpg"))
    assert [item["photo"] for item in read_records(lines)] == ["a.jpg", "b.jpg"]


def test_a_damaged_whole_line_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, record("a.jpg"))
    with (tmp_path / "results.jsonl").open("ab") as stream:
        stream.write(b'{"photo": 3}\n')
    with pytest.raises(CheckpointError, match=r"line 2 is not a result.*--overwrite"):
        Results(tmp_path, describe())
    with Results(tmp_path, describe(), overwrite=True) as results:
        assert not results.is_done("a.jpg")


def test_other_settings_are_named_with_the_way_out(tmp_path: Path) -> None:
    write(tmp_path, record("a.jpg"))
    with pytest.raises(CheckpointError, match=r"method was 'cam', now 'layer-cam'.*--overwrite"):
        Results(tmp_path, describe(method="layer-cam"))
    with pytest.raises(CheckpointError, match="model source was 'a', now 'b'"):
        Results(tmp_path, describe() | {"model": {"source": "b"}})
    with pytest.raises(CheckpointError, match=r"threshold was None, now 0\.3"):
        Results(tmp_path, describe(threshold=0.3))
    assert len(list(read_records(tmp_path / "results.jsonl"))) == 1


def test_overwrite_removes_our_files_only(tmp_path: Path) -> None:
    write(tmp_path, record("a.jpg"))
    (tmp_path / "panels" / "a.png").write_bytes(b"old")
    (tmp_path / "mine.txt").write_text("keep")
    with Results(tmp_path, describe(method="layer-cam"), overwrite=True) as results:
        assert not results.is_done("a.jpg")
    assert not (tmp_path / "panels" / "a.png").exists()
    assert (tmp_path / "mine.txt").read_text() == "keep"


def test_overwrite_of_a_folder_that_is_not_ours_keeps_its_pictures(tmp_path: Path) -> None:
    (tmp_path / "panels").mkdir()
    (tmp_path / "panels" / "mine.png").write_bytes(b"keep")
    with Results(tmp_path, describe(), overwrite=True):
        pass
    assert (tmp_path / "panels" / "mine.png").exists()


def test_a_file_or_a_stranger_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="is a file"):
        Results(tmp_path / "file", describe())
    (tmp_path / "results.jsonl").write_text("")
    with pytest.raises(CheckpointError, match=r"no run\.json"):
        Results(tmp_path, describe())
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(CheckpointError, match="damaged"):
        Results(tmp_path, describe())


def test_errors_are_forgotten_for_the_photos_that_are_tried_again(tmp_path: Path) -> None:
    items = [record("a.jpg", panel=None, error="x"), record("b.jpg"), record("c.jpg", panel=None, error="x")]
    write(tmp_path, *items)
    with Results(tmp_path, describe()) as results:
        assert [results.is_done(name) for name in ("a.jpg", "b.jpg", "c.jpg")] == [False, True, False]
        results.forget_errors(["a.jpg", "b.jpg"])
        results.add(record("a.jpg"))
    assert [item["photo"] for item in read_records(tmp_path / "results.jsonl")] == ["b.jpg", "c.jpg", "a.jpg"]


def test_panels_of_the_same_name_do_not_meet(tmp_path: Path) -> None:
    names = ["a/cat.jpg", "b/cat.jpg", "a/cat.png", "c/CAT.jpg", f"{'x' * 200}1.jpg", f"{'x' * 200}2.jpg", "a/é.png"]
    with Results(tmp_path, describe()) as results:
        panels = [results.panel_of(name) for name in names]
        assert panels == [results.panel_of(name) for name in names]
    assert len({panel.casefold() for panel in panels}) == len(names)
    assert panels[0] == "panels/cat.png"
    assert all(len(os.fsencode(Path(panel).name)) < 160 for panel in panels)


def test_panels_of_an_earlier_run_keep_their_names(tmp_path: Path) -> None:
    write(tmp_path, record("b/cat.jpg", panel="panels/cat.png"))
    with Results(tmp_path, describe()) as results:
        assert results.panel_of("a/cat.jpg") != "panels/cat.png"
        assert results.panel_of("b/cat.jpg") == "panels/cat.png"


def test_photos_are_the_same_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one").mkdir()
    monkeypatch.chdir(tmp_path / "one")
    out = tmp_path / "out"
    write(out, record("a.jpg"))
    monkeypatch.chdir(tmp_path)
    with Results(out, describe()) as results:
        assert results.is_done(results.name_of("one/a.jpg"))
        assert results.is_done(results.name_of(str(tmp_path / "one" / "a.jpg")))
        assert not results.is_done(results.name_of("a.jpg"))
