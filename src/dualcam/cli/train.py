"""`dualcam train`: a classifier and labelled photos to a trained sigmoid branch."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from dualcam.cli.options import ModelOptions, open_model
from dualcam.training.launch import Devices
from dualcam.training.settings import TrainingSettings


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Where things are kept, and how a run goes on."""

    size: int | None = None
    """Side of the input in pixels (default: the model's own); the checkpoint keeps it."""

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
    branch: Annotated[TrainingSettings, Parameter(name="*", negative="")] = TrainingSettings(),  # noqa: B008
    devices: Annotated[Devices, Parameter(name="*")] = Devices(),  # noqa: B008
    run: RunOptions = RunOptions(),
) -> int:
    """Train the sigmoid branch of a classifier on labelled photos.

    Backbone and softmax head stay as they are, byte for byte. The result in --out is a checkpoint: give it as
    --model to the other commands.
    """
    from dualcam.cli.options import pick_device
    from dualcam.progress import console
    from dualcam.training.fit import check_out, fit
    from dualcam.training.launch import launch
    from dualcam.training.processes import ALONE
    from dualcam.training.report import TerminalReporter

    check_out(out, resume=run.resume, overwrite=run.overwrite)
    shares = launch(devices, pick_device(model.device)) if devices.shared else ALONE
    wrapped = open_model(model)
    wrapped.preprocessing = wrapped.preprocessing.sized(run.size)
    options = {field.name: getattr(run, field.name) for field in fields(run) if field.name != "size"}
    trained = fit(wrapped, data, out, branch, reporter=TerminalReporter(), processes=shares, **options)
    if not shares.is_first:
        return 0
    console.print(f"trained: {trained.training_record['summary'] if trained.training_record else ''}", highlight=False)
    console.print(f"checkpoint in {out}; try: dualcam explain PHOTO --model {out} -o OUT", highlight=False)
    return 0


COMMAND = train
