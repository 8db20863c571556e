"""`dualcam reproduce`: the paper's tables and figures, beside the published numbers."""

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from dualcam.errors import ChoiceError, DataError, DualcamError
from dualcam.types import Precision

if TYPE_CHECKING:
    from dualcam.reproduce.plan import Place, Step
    from dualcam.reproduce.recipe import Recipe

Target = Literal["table1", "table2", "figure1", "figure3", "figure4", "figure5", "small"]
Words = Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="")]
Files = Annotated[tuple[Path, ...], Parameter(consume_multiple=True, negative="")]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class MachineOptions:
    """What does the work."""

    device: str = "auto"
    """cpu, cuda, cuda:1, mps, auto."""

    devices: int = 1
    """Devices that share the training of classifiers, and of branches."""

    workers: int | None = None
    """Processes or threads that load photos, for each process (default: each command's own)."""

    precision: Precision = "32-true"
    """32-true, or mixed precision for the training of classifiers."""

    cache: bool = True
    """Compute features for the branches once and keep them; --no-cache runs photos through every epoch."""


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
    only: Annotated[
        Words, Parameter(help="Datasets, backbones, methods: --only cub resnet50, or --only cub,resnet50.")
    ] = (),
    recipe: Annotated[Files, Parameter(help="Recipe files of your own instead of the target's.")] = (),
    as_published: Annotated[
        bool,
        Parameter(
            negative="",
            help="Do as the published code does: random start, one new crop of each photo an epoch, batch statistics "
            "and dropout in the frozen part, the first true box, thresholds that are best on the reported photos, "
            "fidelity scored by the branch itself.",
        ),
    ] = False,
    weights: Annotated[
        Literal["pretrained", "random"], Parameter(help="What the backbones start from.")
    ] = "pretrained",
    dry_run: Annotated[bool, Parameter(negative="", help="Print the commands; run nothing.")] = False,
    machine: MachineOptions = MachineOptions(),
) -> int:
    """Make a table or figure of the paper: run what is missing, skip what is done, print published and measured.

    Every step is a command that could be typed by hand, and is printed before it runs. The same call goes on where an
    interrupted one stopped. Datasets that are not there, and steps that fail, cost only their own lines: the exit code
    is then 1.
    """
    from dualcam.reproduce.figures import FIGURES
    from dualcam.reproduce.run import check_made_of, run_steps, with_data

    root = data_root or (Path(os.environ["DUALCAM_DATA"]) if os.environ.get("DUALCAM_DATA") else None)
    if root is None:
        raise DataError("name the folder of the datasets: --data-root FOLDER, or DUALCAM_DATA in the environment")
    place = make_place(root, out, machine, weights, as_published=as_published)
    wanted = wanted_recipes(target, recipe, only)
    chosen, missing = with_data(wanted, place)
    if not chosen:
        raise DataError("\n".join(dict.fromkeys(missing.values())))
    todo = all_steps(target, chosen, place)
    check_made_of(todo)
    for text in missing.values():
        print(f"missing: {text}", file=sys.stderr)
    if dry_run:
        for step in todo:
            print(f"{'done' if step.is_done else 'to do'}: dualcam {shlex.join(step.arguments)}")
        return 1 if missing else 0
    say = partial(print, flush=True)  # a log shows each step when it begins, before what the step itself says
    outcome = run_steps(todo, run_here if machine.devices == 1 else run_apart, say)
    lost = [*outcome.failed, *outcome.left_out]
    if target in FIGURES:
        drawn = [str(step.output) for step in todo if target in step.title and step.is_done]
        if not drawn:
            raise DualcamError(
                f"nothing of {target} was drawn ({'; '.join([*missing, *lost])}); see the messages above"
            )
        print(f"{target}: {', '.join(drawn)}")
    else:
        write_table(target, chosen, place, [*missing, *lost])
    for text in outcome.broken:
        print(f"broken photos were left out: {text}", file=sys.stderr)
    for text in lost:
        print(f"not done: {text}", file=sys.stderr)
    if lost:
        print("mend what the messages above say; the same call goes on from there", file=sys.stderr)
    return 1 if missing or lost or outcome.broken else 0


def make_place(root: Path, out: Path, machine: MachineOptions, weights: str, *, as_published: bool) -> "Place":
    """Return where and how the steps work; raises `ChoiceError` for an impossible ``--out`` or number."""
    from dualcam.reproduce.plan import Place

    if out.exists() and not out.is_dir():
        raise ChoiceError(f"--out {out} is a file; expected a folder")
    if machine.devices < 1 or (machine.workers is not None and machine.workers < 0):
        raise ChoiceError(
            f"--devices must be at least 1, --workers at least 0; got {machine.devices}, {machine.workers}"
        )
    return Place(
        root=root,
        out=out,
        as_published=as_published,
        weights=weights,
        options=() if machine.device == "auto" else ("--device", machine.device),
        loading=() if machine.workers is None else ("--workers", str(machine.workers)),
        sharing=() if machine.devices == 1 else ("--devices", str(machine.devices)),
        classifying=() if machine.precision == "32-true" else ("--precision", machine.precision),
        cached=machine.cache,
    )


def wanted_recipes(target: str, files: Sequence[Path], only: tuple[str, ...]) -> tuple["Recipe", ...]:
    """Return the target's recipes, or those of ``files``, as far as ``only`` names them; raises `ChoiceError`."""
    from dualcam.reproduce.figures import FIGURES, figure_recipes
    from dualcam.reproduce.recipe import choose, read_recipe
    from dualcam.reproduce.run import candidates

    own = tuple(map(read_recipe, files))
    twice = sorted({recipe.name for recipe in own if sum(other.name == recipe.name for other in own) > 1})
    if twice:
        raise ChoiceError(f"several recipes are called {', '.join(twice)}, and would share a folder; rename one")
    return choose(only, own or (figure_recipes(target) if target in FIGURES else candidates(target)))


def all_steps(target: str, chosen: tuple["Recipe", ...], place: "Place") -> list["Step"]:
    """Return the steps of a target, in order."""
    from dualcam.reproduce.figures import FIGURES, figure_steps
    from dualcam.reproduce.run import plan

    todo = [] if target in FIGURES else plan(target, chosen, place)
    if target in FIGURES or target == "small":
        known = {step.output for step in todo}
        todo += [step for step in figure_steps(target, chosen, place) if step.output not in known]
    return todo


def run_here(arguments: Sequence[str]) -> int:
    """Run a command of dualcam in this process, and return its exit code."""
    from dualcam.cli.main import run

    return run(arguments)


def run_apart(arguments: Sequence[str]) -> int:
    """Run a command of dualcam in a process of its own: where it starts others, they run its command, not this one."""
    return subprocess.run([sys.executable, "-m", "dualcam", *arguments], check=False).returncode


def write_table(target: str, chosen: Sequence["Recipe"], place: "Place", missing: Sequence[str]) -> None:
    """Write and print the lines that there are; raises `DualcamError` where there is none."""
    from rich.console import Console

    from dualcam.reproduce.run import collect, notes
    from dualcam.reproduce.tables import as_rich, write_tables

    lines = collect(target, chosen, place)
    if not lines:
        raise DualcamError(f"nothing of {target} was measured ({'; '.join(missing)}); see the messages above")
    told = notes(place, lines, missing)
    name = target + ("-as-published" if place.as_published else "")
    files = write_tables(place.out, name, lines, told)
    Console(width=None if sys.stdout.isatty() else 200).print(as_rich(lines, name, told))
    print(", ".join(map(str, files)))


COMMAND = reproduce
