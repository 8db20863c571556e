"""`dualcam ablate`: which ingredient of the method brings what, over heads, clamps, normalizations and seeds."""

import shlex
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from dualcam.cli.options import ModelOptions, open_model

if TYPE_CHECKING:
    from dualcam.ablation.study import Study, StudySettings
    from dualcam.evaluation.fidelity import Fidelity

Names = Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="")]
AnyNames = Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="", show_default=False)]
CHEAP = ("average-drop", "increase", "average-gain")
RECIPE = ("multi_label", "fit_head", "epochs", "lr", "weight_decay", "views")
FULL = ("insertion", "deletion", "road", "max-sensitivity")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """What is compared."""

    head: AnyNames = ()
    """softmax, centered, log-odds (these need no training), sigmoid (the recipe), sigmoid-centered, sigmoid-random
    (other starts), sigmoid-optimum (solved by L-BFGS), sigmoid-unbalanced (plain BCE). Default: all that apply."""

    method: AnyNames = ()
    """Methods (default: the usual ones that apply to the head; those equal by law are computed once)."""

    sign: Names = ("signed", "positive")
    """The clamp: signed, positive."""

    normalize: Names = ("minmax", "max", "ivr")
    """minmax, max, ivr."""

    seeds: int = 3
    """How many seeds: of the photos held out, views, order of SGD, random start, and so of a fitted head."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RecipeOptions:
    """How branches are trained; `dualcam train` explains each."""

    train: Path | None = None
    """Photos to train on (default: the train split of DATA); never those that are judged or choose thresholds."""

    train_split: str | None = None
    """Split of them (default: train)."""

    multi_label: Annotated[bool, Parameter(negative="")] = False
    """Train for all labels of a photo, and judge a map for each; else its main one."""

    fit_head: Literal["linear"] | None = None
    """linear: fit a pooled linear softmax head for the data's classes first, anew for each seed."""

    epochs: int | None = None
    """Passes of SGD over all views, or rounds of L-BFGS at most (default: 10, 40)."""

    lr: float | None = None
    """Learning rate (default: a stable step)."""

    weight_decay: float = 5e-4
    """Weight of half the squared norm of the weights."""

    views: int = 4
    """Views kept of each photo."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class PhotoOptions:
    """Which photos are judged, and how."""

    split: str | None = None
    """The split to report on (default: test, else val)."""

    select: str = "auto"
    """What chooses thresholds: a split, even, hold or none, as in `dualcam evaluate`."""

    mode: Literal["clean", "reference"] = "clean"
    """Box semantics, as in `dualcam evaluate`."""

    percentile: float = 35.0
    """IVR's percentile."""

    threshold: float = 0.2
    """The fixed threshold of GT-known and Top-1 Loc, as a share of the map's maximum."""

    max_megapixels: float = 64.0
    """Larger photos are reported as broken."""

    optimize: Annotated[bool, Parameter(negative="")] = False
    """Judge by a faster copy of the model, whose logits stay within 1e-4 of the model's."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class FaithOptions:
    """Whether maps show what the classifier uses, as in `dualcam evaluate --fidelity`."""

    fidelity: Names = CHEAP
    """Metrics of fidelity; none to leave it out."""

    full: Annotated[bool, Parameter(negative="")] = False
    """Measure insertion, deletion, ROAD and sensitivity too, on a sample of the photos: some hours."""

    sample: int | None = None
    """Measure fidelity on so many photos, drawn by a seed (default: all; 50 for what --full adds)."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class AblateWork:
    """How the work is done; no result depends on it."""

    cache_dir: Path | None = None
    """Where features and trained branches are kept (default: $DUALCAM_CACHE or the user's cache folder)."""

    batch_size: int = 16
    """Photos that go through the model at once."""

    workers: int = 2
    """Threads that load photos, and threads that judge maps."""

    overwrite: Annotated[bool, Parameter(negative="")] = False
    """Remove the records of an earlier study in the folder; trained branches stay."""


def ablate(
    data: Annotated[Path, Parameter(help="A dataset with boxes or masks; docs/datasets.md lists the layouts.")],
    /,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"], help="Folder for the records and tables.")] = Path("ablation"),
    model: ModelOptions = ModelOptions(),  # noqa: B008  - frozen
    study: StudyOptions = StudyOptions(),
    recipe: RecipeOptions = RecipeOptions(),
    photos: PhotoOptions = PhotoOptions(),
    faith: FaithOptions = FaithOptions(),
    work: AblateWork = AblateWork(),
) -> int:
    """Tell which ingredient brings what: head, start, solver, balance, clamp, normalization, method, over seeds.

    Branches are trained once and kept. The same command again continues where it stopped.
    """
    from rich.console import Console

    from dualcam.ablation.branches import Shelf
    from dualcam.ablation.figures import gather
    from dualcam.ablation.study import prepare, run_study
    from dualcam.ablation.tables import effects_rich, values_rich, write_study
    from dualcam.ablation.watch import SharedReporter
    from dualcam.data.stream import check_work
    from dualcam.progress import progress_bar
    from dualcam.training.cache import default_cache_dir

    check_work(work.batch_size, work.workers)
    settings = study_settings(study, recipe, photos, faith)
    wrapped = open_model(model)
    with progress_bar() as progress:
        shelf = Shelf(work.cache_dir or default_cache_dir(), SharedReporter(progress))
        prepared = prepare(wrapped, data, settings, shelf, progress)
        records, errors = run_study(
            prepared,
            out,
            progress,
            batch_size=work.batch_size,
            workers=work.workers,
            overwrite=work.overwrite,
        )
    result = gather(prepared, records)
    about = describe_study(prepared, settings, data, result.told) | {"errors": {**prepared.broken, **errors}}
    files = write_study(out, result, about)
    console = Console(width=None if sys.stdout.isatty() else 260)
    console.print(values_rich(result))
    console.print(effects_rich(result, f"{data.name}: what each ingredient brings; {result.told}"))
    for photo, error in list(about["errors"].items())[:10]:
        print(f"broken: {error if photo in error else f'{photo}: {error}'}", file=sys.stderr)
    print(f"branches: {shelf.made} trained, {shelf.found} found; {', '.join(map(str, files))}")
    return 1 if about["errors"] else 0


def study_settings(
    study: StudyOptions, recipe: RecipeOptions, photos: PhotoOptions, faith: FaithOptions
) -> "StudySettings":
    """Return the checked settings; raises `ChoiceError`."""
    from dualcam.ablation.study import StudySettings
    from dualcam.errors import ChoiceError
    from dualcam.evaluation.cells import NORMALIZATIONS
    from dualcam.evaluation.measure import Protocol
    from dualcam.training.settings import TrainingSettings

    if not 0 <= photos.threshold < 1 or not 0 <= photos.percentile < 100:
        raise ChoiceError(
            "--threshold must lie in [0, 1) and --percentile in [0, 100); "
            f"got {photos.threshold} and {photos.percentile}"
        )
    trained = {name: getattr(recipe, name) for name in RECIPE}
    return StudySettings(
        **asdict(study),
        split=photos.split,
        select=photos.select,
        train=recipe.train,
        train_split=recipe.train_split,
        recipe=TrainingSettings(**trained),
        protocol=Protocol(NORMALIZATIONS, photos.mode, photos.percentile, photos.threshold),
        max_megapixels=photos.max_megapixels,
        fidelity=open_fidelity(faith),
        optimize=photos.optimize,
    )


def open_fidelity(faith: FaithOptions) -> "Fidelity | None":
    """Return what is measured of fidelity, None for nothing; raises `ChoiceError`."""
    from dualcam.evaluation.fidelity import choose_fidelity

    names = [name for name in faith.fidelity if name != "none"] + list(FULL if faith.full else ())
    return choose_fidelity(names, sample=faith.sample) if names else None


def describe_study(study: "Study", settings: "StudySettings", data: Path, told: str) -> dict[str, Any]:
    """Return what the result files say about a study."""
    from dualcam.checkpoint import fingerprint, versions

    model = study.runs[0].model
    return {
        "command": shlex.join(["dualcam", *sys.argv[1:]]),
        "model": {
            "source": model.source,
            "layer": model.anatomy.layer,
            "fingerprint": fingerprint(model.classifier),
        },
        "data": str(data),
        "selection": f"{told}; trained on {' / '.join(map(str, dict.fromkeys(study.trained_on)))} other photos",
        "settings": {
            **asdict(settings),
            "train": str(settings.train) if settings.train else None,
            "heads": study.heads,
        },
        "versions": versions(),
    }


COMMAND = ablate
