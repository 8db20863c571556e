"""`fit`: a classifier and labelled photos to a trained sigmoid branch."""

import time
from dataclasses import replace
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import nn

from dualcam import checkpoint
from dualcam.card import write_card
from dualcam.datasets import Dataset
from dualcam.errors import CheckpointError, ChoiceError
from dualcam.guards import frozen
from dualcam.model import DualBranch
from dualcam.training.cache import default_cache_dir
from dualcam.training.inputs import find_inputs
from dualcam.training.passes import check_passes
from dualcam.training.prepare import Preparation
from dualcam.training.processes import ALONE, Processes
from dualcam.training.report import Reporter
from dualcam.training.run import train
from dualcam.training.settings import TrainingSettings
from dualcam.training.state import remove_state


def fit(
    model: DualBranch | nn.Module | str | None,
    data: str | PathLike[str] | Dataset,
    out: str | PathLike[str] | None = None,
    settings: TrainingSettings | None = None,
    *,
    split: str | None = None,
    cache: bool = True,
    cache_dir: str | PathLike[str] | None = None,
    workers: int = 0,
    resume: bool = False,
    overwrite: bool = False,
    reporter: Reporter | None = None,
    processes: Processes = ALONE,
    **changes: Any,
) -> DualBranch:
    """Train the sigmoid branch of ``model`` on labelled photos; return a `DualBranch` that shares the classifier.

    ``data``: a folder of photos with one subfolder a class, a WSOL-format dataset, or a `Dataset`. ``out``: a
    directory for the checkpoint, history and state (None: nothing is kept). ``settings`` and ``changes`` to them
    (``epochs=3``): see `TrainingSettings`. ``cache=False`` runs images through the backbone in every epoch.
    ``resume`` goes on with the run in ``out`` and ends bit-identical to an uninterrupted one; ``overwrite`` starts
    over. ``processes`` (see `dualcam.training.launch`) share the work. Backbone and softmax head are in eval mode
    throughout, get no gradients, and are byte-equal afterwards (``frozen_mode="train"`` runs a copy of them).

    Raises `ChoiceError` (settings that exclude each other), `DataError` (layout, classes that do not match),
    `ModelError`, `CheckpointError`, `TrainingDiverged`.
    """
    from dualcam.wrapper import wrap

    settings = replace(settings or TrainingSettings(), **changes)
    model = model if isinstance(model, DualBranch) else wrap(model)
    folder = Path(out).expanduser() if out is not None else None
    report = (reporter or Reporter()) if processes.is_first else Reporter()
    device = str(processes.fabric.device if processes.shared else model.device)
    check_passes(settings, cached=cache, world=processes.world, device=device)
    check_out(folder, resume=resume, overwrite=overwrite)
    if processes.shared:
        if folder is None:
            raise ChoiceError("several processes need a directory for the run that all of them see (out=)")
        model = model.to(processes.fabric.device)
        processes.meet()  # nothing is written before all have looked
    inputs = find_inputs(data, split, settings)
    started = time.monotonic()
    with TemporaryDirectory(prefix="dualcam-") as scratch, frozen(model.classifier), report:
        home = Path(cache_dir).expanduser() if cache_dir else default_cache_dir() if folder else Path(scratch)
        preparation = Preparation(
            model=model,
            inputs=inputs,
            settings=settings,
            home=home,
            report=report,
            workers=workers,
            cached=cache,
            processes=processes,
        )
        trained = train(preparation, folder, resume=resume)
    if folder is not None and processes.is_first:
        assert trained.training_record is not None
        trained.training_record["seconds"] = round(time.monotonic() - started, 1)
        checkpoint.save(trained, folder)
        write_card(folder)
        remove_state(folder)
    processes.meet()
    return trained


def check_out(folder: Path | None, *, resume: bool, overwrite: bool) -> None:
    """Raise `CheckpointError` where ``folder`` holds a run that was neither asked to go on nor to be replaced."""
    if folder is None:
        if resume:
            raise CheckpointError("resume needs the directory of the run to go on with (out=, -o)")
        return
    finished, begun = (folder / checkpoint.MANIFEST).is_file(), (folder / "state").is_dir()
    if overwrite:
        remove_state(folder)
    elif begun and not resume:
        raise CheckpointError(
            f"{folder} holds a run that did not finish; go on with --resume or replace it with --overwrite"
        )
    elif finished and not resume:
        raise CheckpointError(
            f"{folder} holds a trained branch; replace it with --overwrite or choose another directory"
        )
