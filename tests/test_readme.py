"""Every Python snippet of the README runs, and the commands it names exist."""

import re
from pathlib import Path

import pytest

from dualcam.cli.main import run
from tests.conftest import ROOT
from tests.photos_on_disk import write_folder, write_photo

README = (ROOT / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.slow
def test_snippets_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(SNIPPETS) == 2
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DUALCAM_CACHE", str(tmp_path / "cache"))
    write_photo(tmp_path / "photo.jpg", 0)
    write_folder(tmp_path / "photos", {"heron": 3, "stork": 3})
    for snippet in SNIPPETS:
        exec(compile(snippet, "README.md", "exec"), {})
    assert (tmp_path / "evidence.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "my-branch" / "dualcam.json").is_file()


@pytest.mark.parametrize("command", sorted(set(re.findall(r"^dualcam (\w+)", README, flags=re.MULTILINE))))
def test_commands_exist(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    assert f"dualcam {command}" in capsys.readouterr().out


def test_options_in_the_readme_exist(capsys: pytest.CaptureFixture[str]) -> None:
    for line in re.findall(r"^dualcam .*", README, flags=re.MULTILINE):
        words = line.split()
        run([words[1], "--help"])
        shown = capsys.readouterr().out
        for option in re.findall(r"--[a-z-]+", line):
            assert option in shown, f"{option} of {words[1]}"
