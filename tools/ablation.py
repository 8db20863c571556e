"""Fill the tables and pictures of docs/ablation.md from the studies that it reads.

    python tools/ablation.py --data-root DATA [--work FOLDER] [--only NAME ...]

DATA holds butterflies, imagenet-val-subset and imagenet-one-per-class. Studies that are done are not repeated: each has
a folder below --work, where features and branches are kept too. One that was left out by --only, and never ran there,
stays as it is in the page. The page is written once all are there, or not at all. The text between the tables is
written by hand: read it again when figures change.
"""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Annotated, NamedTuple

from cyclopts import App, Parameter

from dualcam.files import write_whole

PAGE = Path(__file__).parent.parent / "docs" / "ablation.md"
app = App(help=__doc__)


class Study(NamedTuple):
    """A study: its name, its data below DATA, and its options, in which DATA stands for that folder."""

    name: str
    data: str
    options: tuple[str, ...]

    def command(self, data_root: str) -> list[str]:
        """Return the words of the command, but for the folders that it writes to."""
        return [
            "ablate",
            f"{data_root}/{self.data}",
            *(word.replace("DATA/", f"{data_root}/") for word in self.options),
        ]


STUDIES = (
    Study("butterflies", "butterflies", ("--fit-head", "linear")),
    Study("imagenet-val-subset", "imagenet-val-subset", ("--train", "DATA/imagenet-one-per-class", "--optimize")),
    Study(
        "butterflies-full",
        "butterflies",
        (
            *("--fit-head", "linear", "--optimize", "--fidelity", "none", "--full", "--sample", "25"),
            *("--head", "softmax", "log-odds", "sigmoid", "--method", "cam", "--normalize", "minmax", "max"),
        ),
    ),
)


@app.default
def main(
    *,
    data_root: Path,
    work: Path = Path("ablation"),
    only: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="")] = (),
) -> None:
    """Run what is missing, then fill the page."""
    names = [study.name for study in STUDIES]
    if set(only) - set(names):
        raise SystemExit(f"--only {' '.join(only)}: there are {', '.join(names)}")
    page = PAGE.read_text(encoding="utf-8")
    for study in STUDIES:
        section_of(page, study)
    for study in STUDIES:
        if not only or study.name in only:
            run(study, data_root, work)
    pictures = {}
    for study in STUDIES:
        out = work / study.name
        if is_done(out):
            page = filled(page, study, (out / "ablation.md").read_text(encoding="utf-8"))
            pictures[PAGE.parent / picture_of(study)] = (out / "ablation.png").read_bytes()
    for path, picture in pictures.items():
        with write_whole(path) as temporary:
            temporary.write_bytes(picture)
    with write_whole(PAGE) as temporary:
        temporary.write_text(page, encoding="utf-8")
    print(f"wrote {', '.join(map(str, (PAGE, *pictures)))}")


def is_done(out: Path) -> bool:
    """Whether the study's files are all there: ablation.json is the last one that is written."""
    return (out / "ablation.json").exists()


def run(study: Study, data_root: Path, work: Path) -> None:
    """Run the study unless it is done; exits where it fails, lacks photos, or was done by another command."""
    out, words = work / study.name, study.command(str(data_root))
    if not is_done(out):
        places = ["-o", str(out), "--cache-dir", str(work / "cache")]
        code = subprocess.run([sys.executable, "-m", "dualcam", *words, *places], check=False).returncode
        if not is_done(out):
            raise SystemExit(f"{study.name}: dualcam {shlex.join(words)} ended with {code}; {PAGE} is as it was")
    made = json.loads((out / "ablation.json").read_text(encoding="utf-8"))
    if shlex.split(made["command"])[1 : len(words) + 2] != [*words, "-o"]:
        raise SystemExit(f"{out} was made by another command: {made['command']}; remove it, or give another --work")
    if made["errors"]:
        raise SystemExit(f"{out}: {len(made['errors'])} photos are broken; mend them and remove {out}")


def section_of(page: str, study: Study) -> tuple[int, int]:
    """Return where the study's tables begin and end in the page; exits where it has no place for them."""
    begin, end = f"<!-- {study.name} -->", f"<!-- end of {study.name} -->"
    if page.count(begin) != 1 or page.count(end) != 1 or page.index(begin) > page.index(end):
        raise SystemExit(f"{PAGE} needs the lines {begin} and {end}, each once, to put tables between")
    return page.index(begin) + len(begin), page.index(end)


def picture_of(study: Study) -> str:
    """Return the name of the study's picture beside the page."""
    return f"ablation-{study.name}.png"


def filled(page: str, study: Study, report: str) -> str:
    """Return the page with the study's tables between its marks; pictures stand where the page wants them."""
    _, selection, rest = report.split("\n\n", 2)
    _, effects, heads, values = re.split(r"^### .*$", rest, flags=re.MULTILINE)
    parts = [
        f"`{shlex.join(['dualcam', *study.command('DATA')])}`",
        selection,
        effects,
        heads,
        narrow(values),
    ]
    begin, end = section_of(page, study)
    return "\n\n".join([page[:begin], *(part.strip() for part in parts), page[end:]])


def narrow(values: str) -> str:
    """Return of the table of every combination plain and dual cells of the first method, and the trivial maps."""
    lines = [line for line in values.splitlines() if line.startswith("|")]
    first = lines[2].split(" | ")[1]
    ends = (f"| {first} | signed | minmax |", f"| {first} | positive | max |", "|  |  |  |")
    return "\n".join([*lines[:2], *(line for line in lines[2:] if any(end in line for end in ends))])


if __name__ == "__main__":
    app()
