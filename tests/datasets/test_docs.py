"""What docs/datasets.md says: its snippets run, its commands exist, and it names every layout and kind."""

import re
from pathlib import Path

import pytest

from dualcam.cli.main import run
from dualcam.datasets import layouts
from tests.conftest import ROOT
from tests.generators import boxes_csv, wsol

TEXT = (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("snippet", re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL))
def test_snippets_run(snippet: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    boxes_csv.write(tmp_path / "DATA")
    monkeypatch.chdir(tmp_path)
    exec(compile(snippet, "datasets.md", "exec"), {})


def test_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wsol.write(tmp_path / "DATA")
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"^dualcam (.*?)(?:  +#.*)?$", TEXT, flags=re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        assert run(command.split()) == 0


def test_layouts_are_described_in_their_order() -> None:
    names = [layout.__name__.rpartition(".")[2] for layout in layouts()]
    assert re.findall(r"^\| `(\w+)` \|", TEXT, flags=re.MULTILINE) == names
    assert re.findall(r"^### (\w+)$", TEXT, flags=re.MULTILINE) == names


def test_kinds_of_problems_are_described() -> None:
    sources = "".join((ROOT / "src/dualcam/data" / name).read_text() for name in ("check.py", "check_photo.py"))
    kinds = set(re.findall(r"(?:Problem|Finding)\(\s*\"([^\"]+)\"", sources)) | {
        "duplicate",
        "content in several splits",
    }
    table = TEXT[TEXT.index("| kind |") : TEXT.index("## Layouts")].replace("missing, unreadable, empty mask", "")
    unnamed = {kind for kind in kinds if kind not in table} - {"missing mask", "unreadable mask", "empty mask"}
    assert len(kinds) > 12 and not unnamed
