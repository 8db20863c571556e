"""docs/methods.md knows every method, score and number, and nothing that is not there."""

import re
from dataclasses import fields
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import torch
import torchvision
from PIL import Image

import dualcam
from dualcam import methods
from dualcam.cli.explain import EvidenceOptions
from dualcam.cli.main import run
from dualcam.targets import READS, SCORES, SHIFT_FREE
from dualcam.tuning import Tuning

PAGE = (Path(__file__).parents[2] / "docs" / "methods.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"(?:^    .*\n)+", PAGE, flags=re.MULTILINE)
ROWS = re.findall(r"^\| `([^`]+)` \|(.*)$", PAGE, flags=re.MULTILINE)


def test_the_tables_are_complete() -> None:
    assert {name for name, _ in ROWS} == {*methods.available(), *SCORES}
    for name, row in ROWS:
        if name in methods.available():
            method = methods.get(name)
            assert ("| linear |" in row) == method.needs_rows
            assert method.paper.split(" ")[0] in row or method.paper.split(" ")[0] == "Gildenblat"
        else:
            assert ("| yes |" in row) == (name in SHIFT_FREE)


def test_every_number_is_named_and_read_by_somebody() -> None:
    read = {name for method in methods.available().values() for name in method.reads}
    read |= {name for names in READS.values() for name in names}
    assert read == {field.name for field in fields(Tuning)}
    assert all(f"`{name}`" in PAGE or name == "seed" for name in read)


def test_the_command_s_help_names_every_method() -> None:
    source = (Path(__file__).parents[2] / "src/dualcam/cli/explain.py").read_text(encoding="utf-8")
    said = source.partition("    method: str | None = None")[2].partition("    branch: Branch")[0]
    assert set(re.findall(r"[a-z-]*(?:cam|grad)[a-z-]*(?:\+\+)?", said)) == set(methods.available())
    assert EvidenceOptions().method is None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_page_s_snippets_run() -> None:
    pytest.importorskip("pytorch_grad_cam")
    pytest.importorskip("captum")
    torch.manual_seed(0)
    model = dualcam.wrap(
        torchvision.models.resnet18(num_classes=5).eval(), preprocessing=dualcam.Preprocessing((64, 96))
    )
    names: dict[str, Any] = {
        "model": model,
        "photo": Image.new("RGB", (40, 30), (200, 90, 20)),
        "images": torch.randn(2, 3, 64, 96),
        "labels": torch.tensor([1, 4]),
        "k": 2,
    }
    ran = 0
    for block in BLOCKS:
        code = "".join(line for line in dedent(block).splitlines(keepends=True) if not line.startswith("dualcam "))
        exec(compile(code, "docs/methods.md", "exec"), names)
        ran += bool(code.strip())
    assert ran == 6
    assert names["loss"].requires_grad
    assert names["maps"].shape == (2, 1, 2, 3)


def test_the_page_s_commands_exist(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line for block in BLOCKS for line in dedent(block).splitlines() if line.startswith("dualcam ")]
    assert len(lines) == 2
    for line in lines:
        assert run([line.split()[1], "--help"]) == 0
        shown = capsys.readouterr().out
        assert [option for option in re.findall(r" (--?[a-z-]+)", line) if option not in shown] == []
