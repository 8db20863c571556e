"""Make docs/results.md: every localization figure the project reports, from the commands that made it.

    python tools/results.py --data-root DATA [--work FOLDER] [--only NAME ...]

DATA holds imagenet-val-subset (WSOL metadata) and butterflies (boxes.csv and masks). Runs that are done are not
repeated: each has a folder below --work.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, NamedTuple

from cyclopts import App, Parameter

PAGE = Path(__file__).parent.parent / "docs" / "results.md"
SHORT = ["--method", "cam", "--branch", "softmax", "sigmoid"]
VIEWS = ["--scales", "1.2857", "1.5714", "1.8571", "--flip"]
app = App(help=__doc__)


class Study(NamedTuple):
    """A run: its name, its heading, the data below DATA, and options."""

    name: str
    heading: str
    data: str
    options: list[str]


STUDIES = (
    Study("imagenet", "ImageNet photos, the default model, the whole grid", "imagenet-val-subset", []),
    Study("size", "The same at 288 pixels", "imagenet-val-subset", ["--size", "288", *SHORT]),
    Study("flip", "With mirror images", "imagenet-val-subset", ["--flip", *SHORT]),
    Study("scales", "Over four sizes", "imagenet-val-subset", [*VIEWS[:-1], *SHORT]),
    Study("refine", "Along the photo's edges", "imagenet-val-subset", ["--refine", *SHORT]),
    Study("best", "Four sizes, mirrored, along edges", "imagenet-val-subset", [*VIEWS, "--refine", *SHORT]),
    Study("butterflies", "Butterflies, boxes and masks, the whole grid", "butterflies", ["--model", "butterfly-model"]),
)


@app.default
def main(
    *,
    data_root: Path,
    work: Path = Path("results"),
    only: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="")] = (),
) -> None:
    """Run what is missing, then write the page."""
    model = work / "butterfly-model"
    if not only or "butterflies" in only:
        dualcam("train", str(data_root / "butterflies"), "--fit-head", "linear", "-o", str(model), done=model)
    parts = [__doc__.splitlines()[0].replace("Make docs/results.md: e", "E") if __doc__ else ""]
    for study in STUDIES:
        out = work / study.name
        if not only or study.name in only:
            options = [str(model) if option == "butterfly-model" else option for option in study.options]
            dualcam("evaluate", str(data_root / study.data), "-o", str(out), *options, done=out / "results.json")
        if (out / "results.md").exists():
            command = " ".join(["dualcam evaluate", f"DATA/{study.data}", *study.options])
            selection = json.loads((out / "results.json").read_text(encoding="utf-8"))["selection"]
            table = (out / "results.md").read_text(encoding="utf-8").split("\n\n")[1:-1]
            parts.append(f"## {study.heading}\n\n`{command}`\n\n{selection}.\n\n" + "\n\n".join(table))
    PAGE.write_text("# Results\n\n" + "\n\n".join(parts) + "\n", encoding="utf-8")
    print(f"wrote {PAGE}")


def dualcam(*arguments: str, done: Path) -> None:
    """Run a command unless ``done`` exists."""
    if not done.exists():
        subprocess.run([sys.executable, "-m", "dualcam", *arguments], check=True)


if __name__ == "__main__":
    app()
