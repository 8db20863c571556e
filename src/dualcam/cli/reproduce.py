"""`dualcam reproduce`: the paper's tables and figures, beside the published numbers."""

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from dualcam.errors import DataError

Target = Literal["table1", "table2", "figure1", "figure3", "figure4", "figure5", "small"]
Words = Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="")]
Files = Annotated[tuple[Path, ...], Parameter(consume_multiple=True, negative="")]


def reproduce(
    target: Annotated[
        Target,
        Parameter(
            help="table1: fidelity on CUB and Cars. table2: localization on ImageNet and Open Images. figure1: the "
            "distortions; figure3, figure4, figure5: maps and boxes. small: both tables and the figures on "
            "butterflies and 650 ImageNet photos, which a laptop can do."
        ),
    ],
    /,
    *,
    data_root: Annotated[Path | None, Parameter(help="Folder of the datasets (default: $DUALCAM_DATA).")] = None,
    out: Annotated[Path, Parameter(name=["--out", "-o"], help="Folder for all that is made.")] = Path("reproduction"),
    only: Annotated[Words, Parameter(help="Datasets, backbones, methods: --only cub resnet50 gradcam.")] = (),
    recipe: Annotated[Files, Parameter(help="Recipe files of your own instead of the target's.")] = (),
    as_published: Annotated[
        bool,
        Parameter(
            negative="",
            help="Do as the published code does: random start, new crops in every epoch, batch statistics and dropout "
            "in the frozen part, the first true box, fidelity scored by the branch itself.",
        ),
    ] = False,
    weights: Annotated[
        Literal["pretrained", "random"], Parameter(help="What the backbones start from.")
    ] = "pretrained",
    device: Annotated[str, Parameter(help="cpu, cuda, cuda:1, mps, auto.")] = "auto",
    dry_run: Annotated[bool, Parameter(negative="", help="Print the commands; run nothing.")] = False,
) -> int:
    """Make a table or figure of the paper: run what is missing, skip what is done, print published and measured.

    Every step is a command that could be typed by hand, and is printed before it runs. The same call goes on where an
    interrupted one stopped.
    """
    from rich.console import Console

    from dualcam.cli.main import run
    from dualcam.reproduce.figures import FIGURES, figure_recipes, figure_steps
    from dualcam.reproduce.plan import Place
    from dualcam.reproduce.recipe import choose, read_recipe
    from dualcam.reproduce.run import candidates, collect, notes, plan, run_steps
    from dualcam.reproduce.tables import as_rich, write_tables

    root = data_root or (Path(os.environ["DUALCAM_DATA"]) if os.environ.get("DUALCAM_DATA") else None)
    if root is None:
        raise DataError("name the folder of the datasets: --data-root FOLDER, or DUALCAM_DATA in the environment")
    place = Place(root, out, as_published, weights, () if device == "auto" else ("--device", device))
    chosen = tuple(map(read_recipe, recipe))
    if not chosen:
        chosen = choose(only, figure_recipes(target) if target in FIGURES else candidates(target))
    todo = [] if target in FIGURES else plan(target, chosen, place)
    if target in FIGURES or target == "small":
        known = {step.output for step in todo}
        todo += [step for step in figure_steps(target, chosen, place) if step.output not in known]
    if dry_run:
        for step in todo:
            print(f"{'done' if step.is_done else 'to do'}: dualcam {shlex.join(step.arguments)}")
        return 0
    run_steps(todo, run, print)
    if target in FIGURES:
        print(f"{target}: {', '.join(str(step.output) for step in todo if target in step.title)}")
        return 0
    lines = collect(target, chosen, place)
    told = notes(place, target)
    name = target + ("-as-published" if as_published else "")
    files = write_tables(out, name, lines, told)
    Console(width=None if sys.stdout.isatty() else 200).print(as_rich(lines, name, told))
    print(", ".join(map(str, files)))
    return 0


COMMAND = reproduce
