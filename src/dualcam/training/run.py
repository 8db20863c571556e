"""One training run: epochs, each of whose ends is on disk before the next begins."""

from contextlib import nullcontext
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from dualcam.checkpoint import fingerprint
from dualcam.errors import ModelError
from dualcam.guards import one_thread
from dualcam.heads import Head
from dualcam.model import DualBranch, clone_head
from dualcam.training.cache import FeatureCache
from dualcam.training.history import Epoch, write_csv, write_plot
from dualcam.training.lbfgs import Lbfgs
from dualcam.training.measure import stable_lr, validate
from dualcam.training.objective import Task
from dualcam.training.passes import seeded
from dualcam.training.prepare import Preparation
from dualcam.training.processes import ALONE, Processes
from dualcam.training.report import Reporter
from dualcam.training.settings import TrainingSettings
from dualcam.training.sgd import Sgd
from dualcam.training.state import RunState, load_state, save_state

SGD_EPOCHS = 10
LBFGS_ROUNDS = 40


def train(preparation: Preparation, folder: Path | None, *, resume: bool) -> DualBranch:
    """Train and return the new model; history and state are written into ``folder`` (None: nowhere)."""
    settings, report, inputs = preparation.settings, preparation.report, preparation.inputs
    if inputs.told:
        report.say(inputs.told)
    trained = preparation.with_head()
    start = clone_head(trained, settings.start, seed=settings.seed).eval().requires_grad_(True)
    head = deepcopy(start).train(settings.frozen_mode == "train")
    task = preparation.task(trained)
    val = preparation.validation(trained, task)
    identity = {
        **settings.to_json(),
        "cached": preparation.cached,
        "photos": inputs.train.digest(),
        "backbone": fingerprint(trained.classifier),
        "size": trained.preprocessing.size,
    }
    solver = make_solver(head, task, settings, trained.device, cached=preparation.cached)
    course = Course(solver, head, task, val, settings, report, folder, identity, preparation.processes)
    course.begin(resume=resume)
    course.run()
    if task.classes is not None:
        keep_absent_rows(head, start, task.classes)
    trained.sigmoid_head = head
    head.zero_grad()
    head.train(preparation.model.training)
    trained.training_record = record(preparation, task, course.history) | {"backbone_before": identity["backbone"]}
    return trained


@dataclass
class Course:
    """The epochs of a run, and their state on disk."""

    solver: Sgd | Lbfgs
    head: Head
    task: Task
    val: Task | None
    settings: TrainingSettings
    report: Reporter
    folder: Path | None
    identity: dict[str, Any]
    processes: Processes = ALONE
    history: list[Epoch] = field(default_factory=list)
    converged: bool = False

    @property
    def total(self) -> int:
        """Epochs at most."""
        if self.settings.epochs is not None:
            return self.settings.epochs
        return LBFGS_ROUNDS if isinstance(self.solver, Lbfgs) else SGD_EPOCHS

    def begin(self, *, resume: bool) -> None:
        """Go on from the state on disk, if there is one; else write the start, so that a kill finds a run."""
        if self.folder is None:
            return
        state = load_state(self.folder, self.identity, Epoch) if resume else None
        self.processes.meet()  # before the first writes again what the others read
        if state is None:
            self._save()
            return
        self.solver.restore(state.tensors)
        self.history, self.converged = list(state.history), state.converged
        self.report.say(f"resumed after epoch {len(self.history)}")

    def run(self) -> None:
        """Run the epochs that are left."""
        left = self.total - len(self.history)
        threads = one_thread() if self._has_small_steps else nullcontext()
        with threads, self.report.task("training the branch", left * len(self.task.rows())) as advance:
            while len(self.history) < self.total and not self.converged:
                number = len(self.history)
                loss = self.solver.epoch(number, self.history[0].train_loss if number else None, advance)
                self.converged = self.solver.converged
                self.history.append(Epoch(number + 1, self.solver.lr(number), loss, **validate(self.head, self.val)))
                self.report.epoch(self.history[-1], self.total)
                if self.folder is not None:
                    self._save()
        if self.folder is not None and self.processes.is_first:
            write_csv(self.folder / "history.csv", self.history)
            write_plot(self.folder / "history.png", self.history)

    @property
    def _has_small_steps(self) -> bool:
        return isinstance(self.solver, Sgd) and self.head.is_linear and isinstance(self.task.features, FeatureCache)

    def _save(self) -> None:
        assert self.folder is not None
        if not self.processes.is_first:
            return
        save_state(self.folder, self.identity, RunState(self.solver.tensors(), tuple(self.history), self.converged))
        write_csv(self.folder / "history.csv", self.history)


def make_solver(
    head: Head, task: Task, settings: TrainingSettings, device: torch.device, *, cached: bool
) -> Sgd | Lbfgs:
    """Return the solver of ``settings``; raises `ModelError` where L-BFGS does not apply."""
    if settings.solver == "sgd":
        with seeded(device, settings.seed, 3) if head.training else nullcontext():
            lr = settings.lr or stable_lr(head, task, task.counted)
        return Sgd(head, task, settings, device, lr)
    if not head.is_affine or not cached:
        raise ModelError(
            f"solver='lbfgs' solves the convex problem of a linear head on cached features; this head is {head.kind}"
            f"{'' if cached else ', without a cache'}: use solver='sgd'"
        )
    return Lbfgs(head, task, settings, device)


def keep_absent_rows(head: Head, start: Head, present: torch.Tensor) -> None:
    """Give the classes without photos their rows of the start back: weight decay alone has moved them."""
    absent = ~present
    with torch.no_grad():
        for ours, theirs in zip(head.last_layers(), start.last_layers(), strict=True):
            ours.weight[absent] = theirs.weight[absent]
            if ours.bias is not None and theirs.bias is not None:
                ours.bias[absent] = theirs.bias[absent]


def weights_to_json(task: Task) -> float | list[float | None]:
    """Return the weight of positives, one number where all classes have the same; None for classes without photos."""
    weights: list[float | None] = task.positive_weight.tolist()
    if task.classes is not None:
        weights = [weight if has else None for weight, has in zip(weights, task.classes.tolist(), strict=True)]
    first = weights[0]
    return first if first is not None and all(weight == first for weight in weights) else weights


def record(preparation: Preparation, task: Task, history: list[Epoch]) -> dict[str, Any]:
    """Return how the branch was trained, for the checkpoint's JSON."""
    settings, dataset = preparation.settings, preparation.inputs.train
    photos = int(task.features.usable.sum())
    return {
        "summary": f"{settings.solver}, {len(history)} epochs, {photos} photos x {task.features.views} views",
        "settings": settings.to_json(),
        "data": {"name": dataset.root.name, "split": dataset.split, "photos": photos},
        "broken_photos": {
            path: text for some in preparation.processes.gather(task.features.broken) for path, text in some.items()
        },
        "cached": preparation.cached,
        "positive_weight": weights_to_json(task),
        "last_epoch": asdict(history[-1]) if history else None,
    }
