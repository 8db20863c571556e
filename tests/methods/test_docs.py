"""docs/methods.md knows every method, score and number, and nothing that is not there."""

import re
from dataclasses import fields
from pathlib import Path

from dualcam import methods
from dualcam.cli.explain import EvidenceOptions
from dualcam.targets import READS, SCORES, SHIFT_FREE
from dualcam.tuning import Tuning

PAGE = (Path(__file__).parents[2] / "docs" / "methods.md").read_text(encoding="utf-8")
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
