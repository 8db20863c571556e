"""`dualcam explain`: photos to panels and a file of results."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from dualcam.cli.options import FastModelOptions, open_model
from dualcam.tuning import DEFAULTS, Tuning
from dualcam.types import Branch, Fit, Fuse, Normalization, Score, Sign

if TYPE_CHECKING:
    from dualcam.model import DualBranch


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class EvidenceOptions:
    """What is explained, and how it is shown. A folder of results has one set of these."""

    classes: Annotated[tuple[str, ...], Parameter(negative="")] = ("top3",)
    """top3 (any number); over0.5: every label at least that probable by the sigmoid branch; all; or classes by name or
    index, separated by commas. A panel shows the first ten."""

    method: str | None = None
    """cam (where the head is linear, the default there), grad-cam, grad-cam++, layer-cam, xgrad-cam, or one that
    comparisons leave out: ablation-cam, eigen-cam, eigen-grad-cam, hirescam, is-cam, legrad (transformers), score-cam,
    smooth-grad-cam++, ss-cam."""

    branch: Branch = "sigmoid"
    """Whose evidence is shown, and makes the boxes."""

    sign: Sign = "positive"
    """Evidence for the class, all of it, or against."""

    normalize: Normalization = "max"
    """How the map is brought to [0, 1] for boxes and colors."""

    score: Score = "logit"
    """Which score of the branch is explained; centered, log-odds and the two of probability are free of shifts
    common to all classes; rest adds log p to the logit; finer tells the class from those most like it."""

    layers: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="", show_default=False)] = ()
    """Fuse the maps of several layers, named by their paths, into a finer one; by layer-cam unless another is named."""

    fuse: Fuse = "max"
    """How they are fused."""

    threshold: float = 0.2
    """Boxes surround what lies above this share of the map's maximum."""

    fit: Fit = "squash"
    """How a photo is brought to the model's input: the whole photo squashed, its centre, or the whole photo padded."""

    compare: Annotated[bool, Parameter(negative="")] = False
    """Add every usual method that applies, softmax branch above sigmoid branch, for the first class."""

    shared_scale: Annotated[bool, Parameter(negative="")] = False
    """One color scale for all photos, in the unit of the score; panels are drawn at the end."""

    max_megapixels: float = 64.0
    """Larger photos are skipped, with a message."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class WorkOptions:
    """How the work is done; no result depends on it."""

    batch_size: int = 16
    """Photos that go through the model at once."""

    workers: int = 2
    """Threads that load photos; 0 loads them where the model runs."""

    overwrite: Annotated[bool, Parameter(negative="")] = False
    """Remove earlier results in the folder, and start over."""


def explain(
    *photos: Annotated[str, Parameter(help="Files, directories (searched with all below them), globs.")],
    out: Annotated[Path, Parameter(name=["--out", "-o"], help="Folder for panels/, results.jsonl and run.json.")],
    model: FastModelOptions = FastModelOptions(),  # noqa: B008  - frozen
    evidence: EvidenceOptions = EvidenceOptions(),
    tuning: Annotated[Tuning, Parameter(name="*")] = DEFAULTS,
    work: WorkOptions = WorkOptions(),
) -> int:
    """Explain photos: a panel for each, and a line in results.jsonl.

    The same command again continues where it stopped; photos that could not be read are tried again.
    """
    from dualcam.compose import make_plan
    from dualcam.data.stream import Loader, check_work, find_photos
    from dualcam.errors import DataError
    from dualcam.explain_photos import Run, explain_photos
    from dualcam.explainer import check_options
    from dualcam.progress import progress_bar
    from dualcam.results import Results

    check_work(work.batch_size, work.workers)
    found = find_photos(photos, skip=out)
    check_evidence(evidence)
    wrapped = open_model(model)
    options = {
        key: getattr(evidence, key) for key in ("method", "branch", "sign", "normalize", "score", "layers", "fuse")
    }
    plan = make_plan(
        wrapped,
        check_options(wrapped, **options, tuning=tuning),
        split_classes(evidence.classes, wrapped.class_names),
        threshold=evidence.threshold,
        compare=evidence.compare,
    )
    try:
        results = Results(out, describe_run(wrapped, evidence, tuning), overwrite=work.overwrite)
        run = Run(
            model=wrapped,
            plan=plan,
            loader=Loader(wrapped.preprocessing, evidence.fit, evidence.max_megapixels),
            results=results,
            shared_scale=evidence.shared_scale,
            batch_size=work.batch_size,
            workers=work.workers,
        )
        with results, progress_bar() as progress:
            broken = explain_photos(run, found, progress)
    except OSError as error:  # photos that can not be read are not among these: they have lines of their own
        raise DataError(f"the results can not be written: {error}; make room or choose another folder (-o)") from error
    print(f"{len(found) - broken} of {len(found)} photos explained: {out / 'results.jsonl'}")
    return 1 if broken else 0


def check_evidence(evidence: EvidenceOptions) -> None:
    """Raise `ChoiceError` for options that no model can meet."""
    from dualcam.errors import ChoiceError

    if not 0 <= evidence.threshold < 1:
        raise ChoiceError(f"--threshold must lie in [0, 1) of the map's maximum; got {evidence.threshold}")
    if not evidence.max_megapixels > 0:
        raise ChoiceError(f"--max-megapixels must be above 0; got {evidence.max_megapixels:g}")
    if evidence.shared_scale and evidence.normalize != "max":
        raise ChoiceError(
            f"--shared-scale shows values as they are, --normalize {evidence.normalize} maps each photo's own; "
            "choose one of them"
        )


def split_classes(given: tuple[str, ...], names: tuple[str, ...] | None) -> str | list[int | str]:
    """Return classes as `dualcam.explain` takes them; a class's own name may hold commas."""
    from dualcam.targets import is_rule

    if len(given) == 1 and is_rule(given[0]):
        return given[0]
    known = {name.lower() for name in names or ()}
    split: list[int | str] = []
    for item in given:
        split += [item] if item.lower() in known else [part.strip() for part in item.split(",") if part.strip()]
    return split


def describe_run(model: "DualBranch", evidence: EvidenceOptions, tuning: Tuning) -> dict[str, Any]:
    """Return what run.json says; of ``tuning`` what is not the default."""
    from dualcam.checkpoint import fingerprint, versions

    record = model.training_record or {}
    tuned = {key: value for key, value in asdict(tuning).items() if value != getattr(DEFAULTS, key)}
    return {
        "folder": str(Path.cwd()),
        "model": {
            "source": model.source,
            "layer": model.anatomy.layer,
            "fingerprint": fingerprint(model),
            "training": record.get("summary"),
        },
        "settings": {**asdict(evidence), "classes": list(evidence.classes), "layers": list(evidence.layers), **tuned},
        "scale": None,
        "versions": versions(),
    }


COMMAND = explain
