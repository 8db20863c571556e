"""`dualcam evaluate`: any grid of methods, branches, signs and normalizations against ground truth, in one pass."""

import shlex
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from dualcam.cli.fidelity_options import FidelityOptions, open_fidelity
from dualcam.cli.options import FastModelOptions, open_model
from dualcam.types import Fit

if TYPE_CHECKING:
    from dualcam.model import DualBranch

Names = Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="")]
AnyNames = Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="", show_default=False)]
AnyNumbers = Annotated[tuple[float, ...], Parameter(consume_multiple=True, negative="", show_default=False)]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class GridOptions:
    """What is compared."""

    method: AnyNames = ()
    """Methods (default: the usual ones that apply to the head); with their numbers, score-cam:top_k=64."""

    branch: Names = ("softmax", "softmax-centered", "softmax-log-odds", "sigmoid")
    """softmax; softmax-centered, softmax-log-odds, softmax-log-probability, softmax-probability: which no common shift
    changes, and which need no training; softmax-rest (l + log p), softmax-finer (against similar classes); sigmoid,
    sigmoid-finer."""

    sign: Names = ("signed", "positive")
    """signed, positive."""

    normalize: Names = ("minmax", "max", "ivr")
    """minmax, max, ivr."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class JudgeOptions:
    """How maps are made and judged."""

    mode: Literal["clean", "reference"] = "clean"
    """reference: the public WSOL evaluation's numbers, to compare with published ones; clean: without its faults."""

    size: int | None = None
    """Input side in pixels (default: the model's own)."""

    flip: Annotated[bool, Parameter(negative="")] = False
    """Average the maps of the photo and its mirror image."""

    scales: AnyNumbers = ()
    """Average over further input sizes, as multiples of the first: --scales 0.75 1.25."""

    refine: Annotated[bool, Parameter(negative="")] = False
    """Let maps follow the photo's edges (guided filter)."""

    percentile: float = 35.0
    """IVR's percentile."""

    threshold: float = 0.2
    """The fixed threshold of GT-known, Top-1 and Top-5 Loc, as a share of the map's maximum."""

    first_box: Annotated[bool, Parameter(negative="")] = False
    """Compare the largest contour with the first true box only, as the reference's Loc figures do."""

    fit: Fit = "squash"
    """How a photo is brought to the model's input."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Which photos."""

    split: str | None = None
    """The split to report on (default: test, else val)."""

    select: str = "auto"
    """What chooses thresholds: a split, even (the even positions of sorted ids; the odd ones are reported), hold (a
    fifth of train), none (the maximum over the reported photos). auto: a val split, else hold, else even."""

    seed: int = 0
    """Seed of hold, of --sample, and of all that fidelity draws."""

    multi_label: Annotated[bool, Parameter(negative="")] = False
    """Judge a map for each label of a photo, by that label's boxes or masks; else that of its main label."""

    max_megapixels: float = 64.0
    """Larger photos are reported as broken."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class EvaluateWork:
    """How the work is done; no result depends on it."""

    batch_size: int = 16
    """Photos that go through the model at once."""

    workers: int = 2
    """Threads that load photos, and threads that judge maps."""

    overwrite: Annotated[bool, Parameter(negative="")] = False
    """Remove an earlier evaluation in the folder, and start over."""


def evaluate(
    data: Annotated[
        Path,
        Parameter(help="A dataset with boxes or masks (docs/datasets.md); for --fidelity any folder of photos."),
    ],
    /,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"], help="Folder for the records and tables.")] = Path(
        "evaluation"
    ),
    model: FastModelOptions = FastModelOptions(),  # noqa: B008  - frozen
    grid: GridOptions = GridOptions(),
    judge: JudgeOptions = JudgeOptions(),
    faith: FidelityOptions = FidelityOptions(),  # noqa: B008  - frozen
    photos: DataOptions = DataOptions(),
    work: EvaluateWork = EvaluateWork(),
) -> int:
    """Compare maps with true boxes and masks, and with what the classifier uses; one pass for the whole grid.

    The same command again continues where it stopped.
    """
    from rich.console import Console

    from dualcam.data.stream import check_work
    from dualcam.evaluation.cells import make_grid
    from dualcam.evaluation.measure import Protocol
    from dualcam.evaluation.photos import choose_photos, without_truth
    from dualcam.evaluation.records import Records, clear
    from dualcam.evaluation.run import Evaluation, run_evaluation
    from dualcam.evaluation.summary import summarize
    from dualcam.evaluation.tables import as_rich, write_tables
    from dualcam.evaluation.views import make_views
    from dualcam.progress import progress_bar

    check_work(work.batch_size, work.workers)
    check_judge(judge)
    wrapped = open_model(model)
    wrapped.preprocessing = wrapped.preprocessing.sized(judge.size)
    cells = make_grid(wrapped, **asdict(grid))
    which = {key: getattr(photos, key) for key in ("split", "select", "seed", "multi_label")}
    chosen = choose_photos(wrapped, data, **which, truth_needed=faith.fidelity is None)
    chosen = without_truth(chosen) if chosen.has_truth else chosen
    fidelity = open_fidelity(faith, photos.seed, truth=chosen.has_truth)
    evaluation = Evaluation(
        model=wrapped,
        photos=chosen,
        kinds=tuple(cells.computed),
        views=make_views(wrapped.preprocessing, judge.scales, flip=judge.flip),
        protocol=Protocol(cells.normalizations, judge.mode, judge.percentile, judge.threshold, judge.first_box),
        fit=judge.fit,
        guided=judge.refine,
        max_megapixels=photos.max_megapixels,
        batch_size=work.batch_size,
        workers=work.workers,
        fidelity=fidelity,
    )
    about = describe_evaluation(wrapped, data, chosen.told, grid, judge, photos)
    if fidelity is not None:
        about["settings"]["fidelity"] = asdict(fidelity)
    if work.overwrite:
        clear(out)
    run = {key: about[key] for key in ("model", "data", "settings", "versions")}
    run["photos"] = [part.digest() for part in chosen.parts]
    records = Records(out, run, evaluation.record_type(), len(chosen))
    with progress_bar() as progress:
        errors = run_evaluation(evaluation, records, progress)
    summary = summarize(cells, records.rows, chosen.choosing, chosen.reported, fidelity, chosen.numbers)
    about["errors"] = errors
    files = write_tables(out, summary, about)
    console = Console(width=None if sys.stdout.isatty() else 260)
    for table in as_rich(summary, data.name, f"{about['selection']}; {judge.mode} boxes"):
        console.print(table)
    for photo, error in list(errors.items())[:10]:
        print(f"broken: {error if photo in error else f'{photo}: {error}'}", file=sys.stderr)
    print(f"{summary.reported} photos reported, {summary.broken} broken: {', '.join(map(str, files))}")
    return 1 if errors else 0


def check_judge(judge: JudgeOptions) -> None:
    """Raise `ChoiceError` for options that can not be met."""
    from dualcam.errors import ChoiceError

    if not 0 <= judge.threshold < 1:
        raise ChoiceError(f"--threshold must lie in [0, 1) of the map's maximum; got {judge.threshold}")
    if not 0 <= judge.percentile < 100:
        raise ChoiceError(f"--percentile must lie in [0, 100); got {judge.percentile}")
    if judge.mode == "reference" and judge.fit != "squash":
        raise ChoiceError("--mode reference knows squashed photos only; leave --fit out")


def describe_evaluation(
    model: "DualBranch", data: Path, told: str, *options: GridOptions | JudgeOptions | DataOptions
) -> dict[str, Any]:
    """Return what the result files say about a run."""
    from dualcam.checkpoint import fingerprint, versions

    record = model.training_record or {}
    return {
        "command": shlex.join(["dualcam", *sys.argv[1:]]),
        "model": {
            "source": model.source,
            "layer": model.anatomy.layer,
            "fingerprint": fingerprint(model),
            "training": record.get("summary"),
        },
        "data": str(data),
        "selection": told,
        "settings": {key: value for each in options for key, value in asdict(each).items()},
        "versions": versions(),
    }


COMMAND = evaluate
