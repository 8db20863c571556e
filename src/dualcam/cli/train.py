"""`dualcam train`: a classifier and labelled photos to a trained sigmoid branch."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from dualcam.cli.options import ModelOptions, open_model


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class BranchOptions:
    """How the branch is trained."""

    solver: Literal["sgd", "lbfgs"] = "sgd"
    """sgd, or lbfgs: to the optimum (linear heads)."""

    start: Literal["clone", "centered", "random"] = "clone"
    """Start as a clone of the softmax head, the clone minus its mean row, or at random."""

    balance: Literal["uniform", "frequency", "none"] = "uniform"
    """Weight of positives: C - 1, (N - N_k) / N_k, or 1."""

    labels: Literal["hard", "soft"] = "hard"
    """The photos' labels, or the softmax branch's probabilities of each view."""

    temperature: float = 1.0
    """Softens soft labels: probabilities of the softmax branch's logits divided by it."""

    epochs: int | None = None
    """Passes over all views (default 10), or rounds of 25 iterations of lbfgs (at most 40)."""

    batch_size: int = 32
    """Views a step."""

    lr: float | None = None
    """Learning rate; by default a step that is surely stable."""

    momentum: float = 0.9
    """Nesterov momentum."""

    weight_decay: float = 5e-4
    """Weight of half the squared distance to the anchor."""

    anchor: Literal["zero", "start"] = "zero"
    """What weight decay pulls to."""

    lr_step: int = 3
    """The learning rate falls to a tenth every so many epochs; 0 keeps it."""

    views: int = 4
    """Views of each photo."""

    augment: Literal["none", "crop", "resized-crop"] = "crop"
    """crop: 7/8 of width and height, flipped or not; resized-crop: any part down to --min-scale; none: one view."""

    min_scale: float = 0.25
    """Least share of the photo's area in a resized crop."""

    val_share: float = 0.1
    """Share of each class held out for validation where the data has no val split."""

    fit_head: Literal["linear"] | None = None
    """linear: fit a softmax head for the data's own classes first, then freeze it."""

    head_decay: float = 1e-3
    """Weight decay of the fitted softmax head."""

    seed: int = 0
    """Seed of views, hold-out, order and random start."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Where things are kept, and how a run goes on."""

    split: str | None = None
    """Split to train on, where the data has splits (default: train)."""

    cache: bool = True
    """Compute features once and keep them; --no-cache runs images through every epoch."""

    cache_dir: Path | None = None
    """Where features are kept (default: $DUALCAM_CACHE or the user's cache folder)."""

    workers: int = 0
    """Processes that decode photos; 0: this one."""

    resume: Annotated[bool, Parameter(negative="")] = False
    """Go on with the run in --out."""

    overwrite: Annotated[bool, Parameter(negative="")] = False
    """Replace the run in --out."""


def train(
    data: Annotated[
        Path,
        Parameter(help="Photos with one subfolder a class (perhaps under train/ and val/), or a WSOL-format dataset."),
    ],
    /,
    *,
    out: Annotated[
        Path, Parameter(name=["--out", "-o"], help="Directory for the checkpoint, history.csv and history.png.")
    ],
    model: ModelOptions = ModelOptions(),  # noqa: B008  - frozen
    branch: BranchOptions = BranchOptions(),
    run: RunOptions = RunOptions(),
) -> int:
    """Train the sigmoid branch of a classifier on labelled photos.

    Backbone and softmax head stay as they are, byte for byte. The result in --out is a checkpoint: give it as
    --model to the other commands.
    """
    from dualcam.progress import console
    from dualcam.training.fit import check_out, fit
    from dualcam.training.report import TerminalReporter
    from dualcam.training.settings import TrainingSettings

    settings = TrainingSettings(**asdict(branch))
    check_out(out, resume=run.resume, overwrite=run.overwrite)
    wrapped = open_model(model)
    options = {field.name: getattr(run, field.name) for field in fields(run)}
    trained = fit(wrapped, data, out, settings, reporter=TerminalReporter(), **options)
    console.print(f"trained: {trained.training_record['summary'] if trained.training_record else ''}", highlight=False)
    console.print(f"checkpoint in {out}; try: dualcam explain PHOTO --model {out} -o OUT", highlight=False)
    return 0


COMMAND = train
