"""A study: the runs it is made of, trained where they are not on disk yet, and one evaluation each."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from dualcam.ablation.branches import Shelf, stand_in
from dualcam.ablation.heads import HEADS, choose_heads
from dualcam.ablation.inputs import choose_judged, leave_out, open_training
from dualcam.acceleration.optimize import optimize
from dualcam.checkpoint import fingerprint, versions
from dualcam.data.photos import MAX_MEGAPIXELS
from dualcam.datasets import Dataset
from dualcam.errors import ChoiceError
from dualcam.evaluation.cells import NORMALIZATIONS, SIGNS, Grid, make_grid
from dualcam.evaluation.fidelity import Fidelity
from dualcam.evaluation.measure import Protocol
from dualcam.evaluation.photos import Photos
from dualcam.evaluation.records import Records, clear
from dualcam.evaluation.run import Evaluation, run_evaluation
from dualcam.evaluation.views import make_views
from dualcam.model import DualBranch
from dualcam.training.labels import match_classes
from dualcam.training.settings import TrainingSettings


@dataclass(frozen=True, kw_only=True)
class StudySettings:
    """What is compared, on which photos, and the recipe that the heads change."""

    head: tuple[str, ...] = ()
    """Names of `HEADS`; empty: all that apply."""

    method: tuple[str, ...] = ()
    """Empty: the usual ones that apply; those equal by law are one."""

    sign: tuple[str, ...] = SIGNS
    normalize: tuple[str, ...] = NORMALIZATIONS

    seeds: int = 3
    """Seeds 0, 1, ...: of the photos held out, views, order, random start, and so of a fitted head."""

    split: str | None = None
    select: str = "auto"

    train: Path | None = None
    """Photos to train on; None: the data's own."""

    train_split: str | None = None

    recipe: TrainingSettings = field(default_factory=TrainingSettings)
    """Its seed and share of validation photos are the study's; with its ``multi_label`` each label is judged, too."""

    protocol: Protocol = field(default_factory=lambda: Protocol(NORMALIZATIONS))
    max_megapixels: float = MAX_MEGAPIXELS

    fidelity: Fidelity | None = None
    """What is measured of fidelity on the reported photos; its seed draws the same photos for all runs."""

    optimize: bool = False
    """Judge by faster copies of the models; see `dualcam.acceleration.optimize`."""

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ChoiceError(f"seeds must be at least 1; got {self.seeds}")


@dataclass(frozen=True)
class Run:
    """One evaluation: a model whose heads share their softmax branch, and the ``seeds`` that it stands for."""

    name: str
    seeds: tuple[int, ...]
    heads: tuple[str, ...]
    model: DualBranch
    photos: Photos
    grid: Grid

    def identity(self, settings: StudySettings) -> dict[str, Any]:
        """Return what the run's records depend on, short enough to be told."""
        protocol, computed = settings.protocol, self.grid.computed
        photos = hashlib.blake2b(repr(photos_identity(self.photos)).encode(), digest_size=16).hexdigest()
        return {
            "model": {
                "source": self.model.source,
                "layer": self.model.anatomy.layer,
                "digest": fingerprint(self.model),
            },
            "branches": list(dict.fromkeys(kind.branch for kind in computed)),
            "methods": list(dict.fromkeys(kind.method for kind in computed)),
            "signs": list(dict.fromkeys(kind.sign for kind in computed)),
            "normalizations": list(self.grid.normalizations),
            "photos": photos,
            "protocol": [protocol.mode, protocol.percentile, protocol.threshold, settings.max_megapixels],
            "optimize": settings.optimize,
            "fidelity": None if settings.fidelity is None else asdict(settings.fidelity),
            "versions": versions(),
        }


def photos_identity(photos: Photos) -> list[Any]:
    """Return which photos these are, and which of them choose."""
    return [[part.digest() for part in photos.parts], photos.choosing.tolist(), photos.reported.tolist()]


@dataclass(frozen=True)
class Study:
    """The runs of a study; ``heads`` in the order of the tables, ``trained_on`` the photos by seed."""

    settings: StudySettings
    runs: tuple[Run, ...]
    heads: tuple[str, ...]
    trained_on: tuple[int, ...]
    broken: dict[str, str]


def prepare(
    model: DualBranch, data: str | PathLike[str], settings: StudySettings, shelf: Shelf, progress: Progress
) -> Study:
    """Train what is not on the shelf, and return the runs.

    Photos that choose thresholds, and those reported, are never trained on. Raises `DataError` where nothing is left
    to train on, or the classes are not the model's; `ChoiceError`.
    """
    recipe = replace(settings.recipe, val_share=0.0)
    fresh, model = open_training(data, settings.train, settings.train_split), without_branch(model)
    known = stand_in(model, fresh) if recipe.fit_head else model
    heads = choose_heads(settings.head, known)
    _make_grid(heads, known, settings)  # which raises now what else it would raise when the first head is trained
    if not recipe.fit_head:
        match_classes(fresh, known)
    runs: list[Run] = []
    sizes: list[int] = []
    broken: dict[str, str] = {}
    task = progress.add_task("heads", total=settings.seeds * (sum(map(is_trained, heads)) + bool(recipe.fit_head)))
    for seed in range(settings.seeds):
        photos = choose_judged(
            known,
            data,
            split=settings.split,
            select=settings.select,
            seed=seed,
            multi_label=recipe.multi_label,
            truth_needed=settings.fidelity is None,
        )
        rest, own = leave_out(fresh, photos), replace(recipe, seed=seed)
        sizes.append(len(rest))
        base = model
        if recipe.fit_head:
            base = shelf.branch(model, rest, replace(own, epochs=0))
            progress.advance(task)
        for names, branch in _models(base, heads, rest, replace(own, fit_head=None), shelf):
            runs.append(_make_run(names, seed, branch, photos, settings))
            broken.update((branch.training_record or {}).get("broken_photos", {}))
            progress.advance(task, int(is_trained(names[0])))
    return Study(settings, _share(runs), heads, tuple(sizes), broken)


def is_trained(head: str) -> bool:
    """Whether a branch of its own is trained for ``head``."""
    return HEADS[head].changes is not None


def without_branch(model: DualBranch) -> DualBranch:
    """Return ``model`` as it is before any training: with a sigmoid branch that is a clone."""
    return DualBranch(
        model.classifier,
        model.anatomy,
        model.preprocessing,
        class_names=model.class_names,
        source=model.source,
        outputs=model.outputs,
        fitted_head=model.fitted_head,
        adapter=model.adapter,
    )


def run_study(
    study: Study, out: Path, progress: Progress, *, batch_size: int = 16, workers: int = 2, overwrite: bool = False
) -> tuple[list[NDArray[Any]], dict[str, str]]:
    """Evaluate what has no record yet; return each run's records, and the errors of broken photos by path.

    Records lie in ``out``/runs; a run of other settings raises `CheckpointError`.
    """
    errors: dict[str, str] = {}
    found: list[NDArray[Any]] = []
    opened = [_records(run, study.settings, out, overwrite=overwrite) for run in study.runs]
    judged = [np.union1d(run.photos.choosing, run.photos.reported) for run in study.runs]
    left = [np.intersect1d(records.pending(), photos) for records, photos in zip(opened, judged, strict=True)]
    total, todo = sum(map(len, judged)), sum(map(len, left))
    task = progress.add_task("photos of all heads", total=total, completed=total - todo)
    for run, records, rest in zip(study.runs, opened, left, strict=True):
        if len(rest):
            work = _evaluation(run, study.settings, batch_size, workers)
            if study.settings.optimize:
                work = replace(work, model=optimize(work.model))
            errors.update(run_evaluation(work, records, progress))
            for other in progress.task_ids:
                progress.update(other, visible=other == task)
        progress.advance(task, len(rest))
        found.append(records.rows)
    return found, errors


def _models(
    base: DualBranch, heads: Sequence[str], photos: Dataset, settings: TrainingSettings, shelf: Shelf
) -> Iterator[tuple[tuple[str, ...], DualBranch]]:
    """Yield the heads that share a model, with it: those without training together, each trained one alone."""
    untrained = tuple(head for head in heads if not is_trained(head))
    if untrained:
        yield untrained, base
    for head in heads:
        changes = HEADS[head].changes
        if changes is not None:
            yield (head,), shelf.branch(base, photos, replace(settings, **changes))


def _make_run(names: tuple[str, ...], seed: int, model: DualBranch, photos: Photos, settings: StudySettings) -> Run:
    return Run(f"seed-{seed}-{names[0]}", (seed,), names, model, photos, _make_grid(names, model, settings))


def _make_grid(heads: Sequence[str], model: DualBranch, settings: StudySettings) -> Grid:
    return make_grid(
        model,
        method=settings.method,
        branch=[HEADS[name].branch for name in heads],
        sign=settings.sign,
        normalize=settings.normalize,
    )


def _share(runs: Sequence[Run]) -> tuple[Run, ...]:
    """Return the runs, each once: what no seed changes, as a given softmax head, stands for several seeds."""
    found: dict[Any, Run] = {}
    for run in runs:
        key = repr((run.heads, fingerprint(run.model), photos_identity(run.photos)))
        found[key] = replace(found[key], seeds=found[key].seeds + run.seeds) if key in found else run
    return tuple(found.values())


def _records(run: Run, settings: StudySettings, out: Path, *, overwrite: bool) -> Records:
    folder = out / "runs" / run.name
    if overwrite:
        clear(folder)
    return Records(folder, run.identity(settings), _evaluation(run, settings).record_type(), len(run.photos))


def _evaluation(run: Run, settings: StudySettings, batch_size: int = 16, workers: int = 2) -> Evaluation:
    return Evaluation(
        model=run.model,
        photos=run.photos,
        kinds=tuple(run.grid.computed),
        views=make_views(run.model.preprocessing),
        protocol=replace(settings.protocol, normalizations=run.grid.normalizations),
        fidelity=settings.fidelity,
        max_megapixels=settings.max_megapixels,
        batch_size=batch_size,
        workers=workers,
    )
