"""Fill the tables of docs/ablation.md from the studies that it reads.

    python tools/ablation.py --data-root DATA [--work FOLDER] [--only NAME ...]

DATA holds butterflies, imagenet-val-subset and imagenet-one-per-class. Studies that are done are not repeated: each has
a folder below --work. The text between the tables is written by hand: read it again when figures change.
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated, NamedTuple

from cyclopts import App, Parameter

PAGE = Path(__file__).parent.parent / "docs" / "ablation.md"
app = App(help=__doc__)


class Study(NamedTuple):
    """A study: its name, which is that of its data below DATA, and its options."""

    name: str
    options: list[str]


STUDIES = (
    Study("butterflies", ["--fit-head", "linear"]),
    Study("imagenet-val-subset", ["--train", "DATA/imagenet-one-per-class", "--optimize"]),
)


@app.default
def main(
    *,
    data_root: Path,
    work: Path = Path("ablation"),
    only: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="")] = (),
) -> None:
    """Run what is missing, then fill the page."""
    page = PAGE.read_text(encoding="utf-8")
    for study in STUDIES:
        out = work / study.name
        if (not only or study.name in only) and not (out / "ablation.json").exists():
            options = [option.replace("DATA/", f"{data_root}/") for option in study.options]
            command = ["ablate", str(data_root / study.name), "-o", str(out), *options]
            subprocess.run([sys.executable, "-m", "dualcam", *command], check=True)
        if (out / "ablation.md").exists():
            page = filled(page, study, (out / "ablation.md").read_text(encoding="utf-8"))
    PAGE.write_text(page, encoding="utf-8")
    print(f"wrote {PAGE}")


def filled(page: str, study: Study, report: str) -> str:
    """Return the page with the study's tables between its marks."""
    _, selection, rest = report.split("\n\n", 2)
    effects, heads, values = re.split(r"### The heads|### Every combination", rest)
    command = " ".join(["dualcam ablate", f"DATA/{study.name}", *study.options])
    body = (
        f"`{command}`\n\n{selection}\n\n{effects.split('brings', 1)[1].strip()}\n\n{heads.strip()}\n\n{narrow(values)}"
    )
    begin, end = f"<!-- {study.name} -->", f"<!-- end of {study.name} -->"
    return re.sub(f"{begin}.*?{end}", lambda _: f"{begin}\n\n{body}\n\n{end}", page, flags=re.DOTALL)


def narrow(values: str) -> str:
    """Return of the table of every combination plain and dual cells of the first method, and the trivial maps."""
    lines = [line for line in values.splitlines() if line.startswith("|")]
    first = lines[2].split(" | ")[1]
    ends = (f"| {first} | signed | minmax |", f"| {first} | positive | max |", "|  |  |  |")
    return "\n".join([*lines[:2], *(line for line in lines[2:] if any(end in line for end in ends))])


if __name__ == "__main__":
    app()
