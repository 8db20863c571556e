"""Wrap one member of every model family of timm, and every classifier of torchvision; docs/architectures.md is made so.

``tools/architectures.json`` names each family's member: the smallest by parameters. ``--choose`` finds them anew, which
takes minutes. Weights are random, seeded: the structure is what is looked at.
"""

import argparse
import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
import torchvision
from torch import nn

import dualcam
from dualcam.description import applicable
from dualcam.errors import StructureNotFound

ROOT = Path(__file__).resolve().parents[1]
MEMBERS = ROOT / "tools" / "architectures.json"
TABLE = ROOT / "docs" / "architectures.md"
MARKER = "<!-- made by tools/architectures.py -->"


@dataclass(frozen=True)
class Row:
    """One line of the table: a model, and what `dualcam.wrap` found in it, or why it found nothing."""

    family: str
    name: str
    model: dualcam.DualBranch | None
    error: str = ""


def members() -> dict[str, str]:
    """Return the member that stands for each family of timm; families that the file does not know are looked up."""
    known: dict[str, str] = json.loads(MEMBERS.read_text(encoding="utf-8"))
    return {family: known.get(family) or smallest(family) for family in timm.list_modules()}


def smallest(family: str) -> str:
    """Return the name of the member of ``family`` with the fewest parameters."""

    def parameters(name: str) -> int:
        with torch.device("meta"), warnings.catch_warnings(action="ignore"):
            return sum(parameter.numel() for parameter in timm.create_model(name).parameters())

    names: list[str] = timm.list_models(module=family)
    return min(names, key=lambda name: (parameters(name), name))


def build(name: str) -> nn.Module:
    """Return the timm model ``name`` with seeded weights, and 1000 classes where it comes without a classifier."""
    torch.manual_seed(0)
    with warnings.catch_warnings(action="ignore"):
        module: nn.Module = timm.create_model(name).eval()
        if getattr(module, "num_classes", 1000) == 0:
            module = timm.create_model(name, num_classes=1000).eval()
    return module


def torchvision_names() -> list[str]:
    """Return the names of torchvision's image classifiers."""
    return sorted(torchvision.models.list_models(module=torchvision.models))


def look(family: str, name: str, preprocessing: dualcam.Preprocessing | None = None) -> Row:
    """Wrap a timm model without any argument; tests give the largest ones a smaller input."""
    try:
        return Row(family, name, dualcam.wrap(build(name), preprocessing=preprocessing))
    except StructureNotFound as error:
        return Row(family, name, None, str(error))


def look_at_torchvision(name: str, preprocessing: dualcam.Preprocessing | None = None) -> Row:
    """Wrap a torchvision model by its name."""
    torch.manual_seed(0)
    try:
        with warnings.catch_warnings(action="ignore"):
            return Row(name, name, dualcam.wrap(f"torchvision:{name}", weights="random", preprocessing=preprocessing))
    except StructureNotFound as error:
        return Row(name, name, None, str(error))


def line(row: Row) -> str:
    """Return the row of the table."""
    if row.model is None:
        return f"| {row.family} | {row.name} | not found | {row.error} | | | |"
    anatomy, head = row.model.anatomy, row.model.softmax_head
    cells = anatomy.cells
    extra = f" + {cells.leading + cells.trailing}" if cells.leading + cells.trailing else ""
    height, width = row.model.preprocessing.size
    methods = "all" if head.is_linear else "all but those that read class rows"
    assert head.is_linear or applicable(head)
    place = f"{anatomy.layer}{f' + {anatomy.post}' if anatomy.post else ''}"
    grid = f"{anatomy.grid[0]} x {anatomy.grid[1]}{extra}"
    return (
        f"| {row.family} | {row.name} | {head.kind} | `{place}` | {anatomy.layout} | {grid} at {height} x {width} | "
        f"{methods} |"
    )


HEADER = "| family | member | head | tapped layer | layout | cells (+ other tokens) | methods |\n" + 7 * "|---" + "|"


def tables() -> Iterator[str]:
    """Yield the generated part of the page, line by line."""
    yield f"{MARKER}\n\n## timm {timm.__version__}\n\n{HEADER}"
    rows = []
    for family, name in members().items():
        rows.append(look(family, name))
        yield line(rows[-1])
    found = sum(row.model is not None for row in rows)
    yield f"\n{found} of {len(rows)} families.\n\n## torchvision {torchvision.__version__}\n\n{HEADER}"
    names = torchvision_names()
    found = 0
    for name in names:
        row = look_at_torchvision(name)
        found += row.model is not None
        yield line(row)
    yield f"\n{found} of {len(names)} classifiers."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--choose", action="store_true", help="find each family's smallest member anew")
    if parser.parse_args().choose:
        chosen = {family: smallest(family) for family in timm.list_modules()}
        MEMBERS.write_text(json.dumps(chosen, indent=2) + "\n", encoding="utf-8")
    page = TABLE.read_text(encoding="utf-8") if TABLE.is_file() else MARKER
    lines = []
    for text in tables():
        print(text, flush=True)
        lines.append(text)
    TABLE.write_text(page.partition(MARKER)[0] + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
