"""`fit_classifier`: a network and labelled photos to a trained classifier in a directory."""

import time
from dataclasses import asdict, replace
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from dualcam import sources
from dualcam.classifier import checkpoint
from dualcam.classifier.course import Course, Labelled
from dualcam.classifier.history import ClassifierEpoch, write_csv, write_plot
from dualcam.classifier.network import make_ready
from dualcam.classifier.settings import ClassifierSettings
from dualcam.datasets import Dataset
from dualcam.errors import CheckpointError, DataError
from dualcam.sources import Classifier, LoadOptions
from dualcam.training.inputs import Inputs, find_inputs
from dualcam.training.launch import LaunchOptions, launch
from dualcam.training.processes import Processes
from dualcam.training.report import Reporter
from dualcam.training.state import RunState, load_state, remove_state, save_state


def fit_classifier(
    model: str,
    data: str | PathLike[str] | Dataset,
    out: str | PathLike[str],
    settings: ClassifierSettings | None = None,
    *,
    split: str | None = None,
    weights: str = "pretrained",
    download: bool = False,
    size: int | None = None,
    device: str = "cpu",
    processes: LaunchOptions | Processes | None = None,
    workers: int = 0,
    resume: bool = False,
    overwrite: bool = False,
    reporter: Reporter | None = None,
    **changes: Any,
) -> Path:
    """Fine-tune ``model`` on the image labels of ``data``; return ``out``, which `dualcam.wrap` takes.

    ``model``: "torchvision:NAME", "wsol:NAME", "timm:NAME", or the directory of a trained classifier; its last layer is
    made anew unless its class names are those of the data. ``size``: side of the input in pixels (None: the network's
    own). ``settings`` and ``changes`` to them (``epochs=3``): see `ClassifierSettings`. ``processes`` shares the work;
    with more than one, each runs the calling program from its start. ``resume`` goes on with the run in ``out``, on a
    CPU to the same bits; ``overwrite`` starts over.

    Raises `DataError`, `ModelError`, `CheckpointError`, `TrainingDiverged`, `ProcessLost`.
    """
    settings = replace(settings or ClassifierSettings(), **changes)
    folder, started = Path(out).expanduser(), time.monotonic()
    shares = processes if isinstance(processes, Processes) else launch(processes or LaunchOptions(), device)
    report = (reporter or Reporter()) if shares.is_first else Reporter()
    check_folder(folder, resume=resume, overwrite=overwrite)
    shares.meet()  # nothing is written before all have looked
    inputs = find_inputs(data, split, settings)
    with torch.random.fork_rng(devices=[]):  # random weights are those of the seed, in every process
        torch.manual_seed(settings.seed)
        start, source = open_start(model, LoadOptions(weights, download))
    start = replace(start, preprocessing=start.preprocessing.sized(size))
    kept = inputs.train.class_names is not None and inputs.train.class_names == start.class_names
    head = make_ready(start.module, start.preprocessing.size, inputs.train.classes, seed=settings.seed, keep=kept)
    fresh = start.fresh if weights == "pretrained" else ()
    with report:
        if inputs.told:
            report.say(inputs.told)
        course = Course(start.module, head, fresh, start.preprocessing, settings, shares, report, workers)
        history = run(course, inputs, folder, source, resume=resume)
    broken = {path: text for some in shares.gather(course.broken) for path, text in some.items()}
    if shares.is_first:
        record = make_record(settings, inputs, history, broken, shares, round(time.monotonic() - started, 1))
        write_plot(folder / "history.png", history)
        checkpoint.save_classifier(
            folder, start.module, source, inputs.train.class_names, inputs.train.classes, start.preprocessing, record
        )
        remove_state(folder)
    shares.meet()
    return folder


def open_start(model: str, options: LoadOptions) -> tuple[Classifier, str]:
    """Return the network to begin with, and the name of its architecture."""
    if checkpoint.is_classifier(Path(model)):
        folder = Path(model).expanduser()
        return checkpoint.load_classifier(folder), str(checkpoint.read_manifest(folder)["source"])
    start = sources.load(model, options)
    assert start.source is not None, "a network by name has one"
    return start, start.source


def run(course: Course, inputs: Inputs, folder: Path, source: str, *, resume: bool) -> list[ClassifierEpoch]:
    """Run the epochs that are left; the first process leaves the state of each on disk."""
    settings, shares, report = course.settings, course.processes, course.report
    train = labelled(inputs.train, settings)
    val = None if inputs.val is None else labelled(inputs.val, settings)
    identity = {**settings.to_json(), "source": source, "photos": inputs.train.digest()}
    identity["size"] = course.preprocessing.size
    state = load_state(folder, identity, ClassifierEpoch) if resume else None
    history = [] if state is None else list(state.history)
    shares.meet()  # before the first process writes again what the others read
    if state is not None:
        course.restore(state.tensors)
        report.say(f"resumed after epoch {len(history)}")
    elif shares.is_first:
        save_state(folder, identity, RunState(course.tensors(), (), converged=False))
    while len(history) < settings.epochs:
        row = course.epoch(len(history), train, val)
        history.append(row)
        report.say(f"epoch {row.epoch}/{settings.epochs}  {row}")
        if shares.is_first:
            save_state(folder, identity, RunState(course.tensors(), tuple(history), converged=False))
            write_csv(folder / "history.csv", history)
    return history


def labelled(dataset: Dataset, settings: ClassifierSettings) -> Labelled:
    """Return ``dataset`` with the labels that count."""
    if dataset.classes < 2:
        raise DataError(f"a classifier needs photos of at least two classes; {dataset.root} has {dataset.classes}")
    if settings.multi_label:
        assert dataset.label_sets is not None, "find_inputs gives all labels where they are asked for"
        return Labelled(dataset, dataset.label_sets, dataset.classes)
    return Labelled(dataset, torch.from_numpy(dataset.labels), dataset.classes)


def check_folder(folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Raise `CheckpointError` where ``folder`` holds a run that was neither asked to go on nor to be replaced."""
    finished, begun = checkpoint.is_classifier(folder), (folder / "state").is_dir()
    if overwrite:
        remove_state(folder)
    elif begun and not resume:
        raise CheckpointError(
            f"{folder} holds a run that did not finish; go on with --resume or replace it with --overwrite"
        )
    elif finished:
        raise CheckpointError(
            f"{folder} holds a trained classifier; replace it with --overwrite or choose another directory"
        )


def make_record(
    settings: ClassifierSettings,
    inputs: Inputs,
    history: list[ClassifierEpoch],
    broken: dict[str, str],
    processes: Processes,
    seconds: float,
) -> dict[str, Any]:
    """Return how the classifier was trained, for the manifest."""
    photos = len(inputs.train) - len(set(broken) & set(inputs.train.paths))
    return {
        "summary": f"{settings.train}, {len(history)} epochs, {photos} photos",
        "settings": settings.to_json(),
        "data": {"name": inputs.train.root.name, "split": inputs.train.split, "photos": photos},
        "broken_photos": broken,
        "processes": processes.world,
        "last_epoch": asdict(history[-1]) if history else None,
        "seconds": seconds,
    }
