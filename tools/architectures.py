"""Wrap one member of every model family of timm, and every classifier of torchvision; docs/architectures.md is made so.

    python tools/architectures.py [--shard 0/2] [--choose]

``tools/architectures.json`` names each family's member: the smallest by parameters. ``--choose`` finds them anew, which
takes minutes. Weights are random, seeded: the structure is what is looked at. Each line is kept below build/ until the
library or what it stands on changes, so a run goes on where one was stopped; ``--shard 0/2`` makes every second line
and leaves the page as it is.
"""

import argparse
import hashlib
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import timm
import torch
import torchvision
from torch import nn

import dualcam
from dualcam.description import applicable
from dualcam.errors import StructureNotFound
from dualcam.files import write_json, write_whole

ROOT = Path(__file__).resolve().parents[1]
MEMBERS = ROOT / "tools" / "architectures.json"
TABLE = ROOT / "docs" / "architectures.md"
KEPT = ROOT / "build" / "architectures"
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


@dataclass(frozen=True)
class Task:
    """One line of the page to be made, of the ``source`` "timm" or "torchvision"."""

    source: str
    family: str
    look: Callable[[], Row]

    def line(self, made_of: str) -> str:
        """Return the line: the kept one if it was made of the same, else a new one, which is kept."""
        path = KEPT / f"{self.source}-{self.family}.json"
        if path.exists():
            kept: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
            if kept["made of"] == made_of:
                return kept["line"]
        made = line(self.look())
        write_json(path, {"made of": made_of, "line": made})
        return made


def tasks() -> list[Task]:
    """Return what the page has a line for, in its order."""
    families = [Task("timm", family, partial(look, family, name)) for family, name in members().items()]
    return families + [Task("torchvision", name, partial(look_at_torchvision, name)) for name in torchvision_names()]


def sources_digest() -> str:
    """Return a digest of all that decides a line: this project's code, and the versions of what it stands on."""
    digest = hashlib.sha256(f"{torch.__version__} {timm.__version__} {torchvision.__version__}".encode())
    for path in [Path(__file__), MEMBERS, *sorted((ROOT / "src").rglob("*.py"))]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def generated(lines: dict[tuple[str, str], str]) -> str:
    """Return the generated part of the page, from a line for each source and family."""
    parts = [MARKER]
    for source, version, kind in (
        ("timm", timm.__version__, "families"),
        ("torchvision", torchvision.__version__, "classifiers"),
    ):
        mine = [text for (other, _), text in lines.items() if other == source]
        found = sum(" | not found | " not in text for text in mine)
        parts.append("\n".join([f"## {source} {version}\n\n{HEADER}", *mine, f"\n{found} of {len(mine)} {kind}."]))
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--choose", action="store_true", help="find each family's smallest member anew")
    parser.add_argument("--shard", default="0/1", help="I/N: make each N-th line from the I-th on; no page if N > 1")
    options = parser.parse_args()
    if options.choose:
        write_json(MEMBERS, {family: smallest(family) for family in timm.list_modules()})
    shard, shards = map(int, options.shard.split("/"))
    made_of = sources_digest()
    lines = {}
    for task in tasks()[shard::shards]:
        lines[task.source, task.family] = task.line(made_of)
        print(lines[task.source, task.family], flush=True)
    if shards == 1:
        page = TABLE.read_text(encoding="utf-8") if TABLE.is_file() else MARKER
        with write_whole(TABLE) as temporary:
            temporary.write_text(page.partition(MARKER)[0] + generated(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
