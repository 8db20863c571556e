"""The page's lines are kept: a stopped run goes on, and what a line is made of decides whether it is made again."""

from pathlib import Path

import pytest

from tools import architectures


@pytest.fixture
def looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(architectures, "KEPT", tmp_path)
    return []


def task(looked: list[str], family: str) -> architectures.Task:
    def look() -> architectures.Row:
        looked.append(family)
        return architectures.Row(family, f"{family}_small", None, "no head was found")

    return architectures.Task("timm", family, look)


def test_a_line_is_made_once(looked: list[str]) -> None:
    lines = {task(looked, family).line("these sources") for family in ("vit", "swin", "vit")}
    assert looked == ["vit", "swin"]
    assert lines == {
        f"| {family} | {family}_small | not found | no head was found | | | |" for family in ("vit", "swin")
    }


def test_a_line_of_other_sources_is_made_again(looked: list[str]) -> None:
    for sources in ("before", "after", "after"):
        task(looked, "vit").line(sources)
    assert looked == ["vit", "vit"]


def test_the_page_counts_what_was_found() -> None:
    lines = {
        ("timm", "one"): "| one | member | not found | why | | | |",
        ("timm", "two"): "| two | member | mlp | `features` | NCHW | 7 x 7 at 224 x 224 | all |",
        ("torchvision", "three"): "| three | three | mlp | `features` | NCHW | 7 x 7 at 224 x 224 | all |",
    }
    page = architectures.generated(lines)
    assert "1 of 2 families." in page
    assert "1 of 1 classifiers." in page
    assert all(page.count(f"{text}\n") == 1 for text in lines.values())


def test_the_committed_page_is_what_the_tool_writes_around_its_lines() -> None:
    """No line of the page was written by hand into another form."""
    page = architectures.TABLE.read_text(encoding="utf-8")
    made = page.partition(architectures.MARKER)[2]
    lines = [text for text in made.splitlines() if text.startswith("| ") and not text.startswith("| family ")]
    cut = len(architectures.members())
    keys = [("timm", text) for text in lines[:cut]] + [("torchvision", text) for text in lines[cut:]]
    assert architectures.MARKER + made == architectures.generated({key: key[1] for key in keys})
