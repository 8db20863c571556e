"""The tool that fills docs/ablation.md: all of it, or nothing."""

import shlex
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from dualcam.ablation.tables import write_study
from tests.ablation.made_up import ALL, effects_of, made_up, result_of
from tools import ablation
from tools.ablation import STUDIES

TEXT = "# Title\n\nBy hand: 1.25.\n\n" + "".join(
    f"## {study.name}\n\n<!-- {study.name} -->\n\nwhat stood here\n\n<!-- end of {study.name} -->\n\nBelow.\n\n"
    for study in STUDIES
)


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "docs" / "ablation.md"
    path.parent.mkdir()
    path.write_text(TEXT, encoding="utf-8")
    monkeypatch.setattr(ablation, "PAGE", path)
    return path


class Runs:
    """Stands for the command: writes a made-up study, or fails at the study of the given name."""

    def __init__(self, fails: str = "", *, broken: bool = False) -> None:
        self.fails, self.broken = fails, broken
        self.commands: list[list[str]] = []

    def __call__(self, command: list[str], **_: Any) -> CompletedProcess[str]:
        words = command[3:]
        self.commands.append(words)
        out = Path(words[words.index("-o") + 1])
        fails = out.name == self.fails
        if not fails or self.broken:
            told = {"command": shlex.join(["dualcam", *words]), "selection": f"chosen for {out.name}", "data": words[1]}
            errors = {"a.png": "no picture"} if fails else {}
            write_study(out, result_of(effects_of(made_up(ALL))), {**told, "errors": errors})
        return CompletedProcess(command, int(fails))


def fill(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, runs: Runs, **options: Any) -> None:
    monkeypatch.setattr("tools.ablation.subprocess.run", runs)
    ablation.main(data_root=Path("/photos"), work=tmp_path / "work", **options)


def test_every_study_is_run_once_and_stands_in_its_place(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Runs()
    fill(monkeypatch, tmp_path, runs)
    text = page.read_text(encoding="utf-8")
    assert [command[1] for command in runs.commands] == [f"/photos/{study.data}" for study in STUDIES]
    assert "what stood here" not in text
    for study in STUDIES:
        begin, end = ablation.section_of(text, study)
        body = text[begin:end]
        assert f"`dualcam ablate DATA/{study.data} {' '.join(study.options)}`" in body
        assert f"chosen for {study.name}." in body
        assert (page.parent / f"ablation-{study.name}.png").read_bytes().startswith(b"\x89PNG")
        for row in ("clamp: signed → positive", "| sigmoid | cam | positive | max |", "`softmax`", "| centre box |"):
            assert row in body
        assert "ivr | 50" not in body, "the table is narrowed"
    hand = [line for line in TEXT.splitlines() if line not in {"", "what stood here"}]
    assert [line for line in text.splitlines() if line in hand] == hand
    fill(monkeypatch, tmp_path, runs)
    assert len(runs.commands) == len(STUDIES), "what is done is not repeated"
    assert page.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("broken", [False, True])
def test_a_study_that_fails_leaves_the_page_as_it_was(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: bool
) -> None:
    for _ in range(2):
        with pytest.raises(
            SystemExit, match=f"{STUDIES[1].name}.*{'1 photos are broken' if broken else 'ended with 1'}"
        ):
            fill(monkeypatch, tmp_path, Runs(STUDIES[1].name, broken=broken))
        assert page.read_text(encoding="utf-8") == TEXT
        assert list(page.parent.iterdir()) == [page]


def test_a_study_left_out_stays_as_it_is(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs()
    fill(monkeypatch, tmp_path, runs, only=(STUDIES[2].name,))
    text = page.read_text(encoding="utf-8")
    assert len(runs.commands) == 1
    for study in STUDIES[:2]:
        begin, end = ablation.section_of(text, study)
        assert text[begin:end].strip() == "what stood here"
    with pytest.raises(SystemExit, match=STUDIES[0].name):
        fill(monkeypatch, tmp_path, runs, only=("butterfly",))


@pytest.mark.parametrize("mark", ["<!-- butterflies -->", "<!-- end of imagenet-val-subset -->"])
def test_a_page_without_a_place_is_refused_before_anything_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mark: str
) -> None:
    runs = Runs()
    for text in (TEXT.replace(mark, ""), TEXT + mark):
        page.write_text(text, encoding="utf-8")
        with pytest.raises(SystemExit, match="each once"):
            fill(monkeypatch, tmp_path, runs)
        assert page.read_text(encoding="utf-8") == text
    assert runs.commands == []


def test_a_study_of_another_command_is_not_taken(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs()
    fill(monkeypatch, tmp_path, runs)
    first = STUDIES[0]._replace(options=(*STUDIES[0].options, "--head", "softmax"))
    for studies in ((first, *STUDIES[1:]), (STUDIES[0], STUDIES[1]._replace(options=()), STUDIES[2])):
        monkeypatch.setattr(ablation, "STUDIES", studies)
        with pytest.raises(SystemExit, match="another command"):
            fill(monkeypatch, tmp_path, runs)


def test_the_page_of_the_project_is_what_the_tool_makes() -> None:
    text = ablation.PAGE.read_text(encoding="utf-8")
    for study in STUDIES:
        begin, end = ablation.section_of(text, study)
        assert f"`{shlex.join(['dualcam', *study.command('DATA')])}`" in text[begin:end]
        assert (ablation.PAGE.parent / ablation.picture_of(study)).is_file()
        assert f"({ablation.picture_of(study)})" in text
