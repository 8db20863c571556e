"""The epochs of a classifier's training: each a function of (state, seed, number), on one process or many."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from dualcam.adapter import scores_of
from dualcam.classifier.history import ClassifierEpoch
from dualcam.classifier.network import buffers, rate_groups, set_modes
from dualcam.classifier.photos import Batch, EpochPhotos, deal, epoch_order, load_batches
from dualcam.classifier.settings import ClassifierSettings
from dualcam.data.label_sets import LabelSets
from dualcam.data.preprocessing import Preprocessing
from dualcam.data.views import ViewRecipe
from dualcam.datasets import Dataset
from dualcam.errors import DataError, TrainingDiverged
from dualcam.guards import evaluating
from dualcam.training.objective import hot
from dualcam.training.processes import Processes
from dualcam.training.report import Reporter

PLAIN = ViewRecipe("none", 1, 1.0, 0)


@dataclass(frozen=True)
class Labelled:
    """Photos, and their labels as the classifier's classes: [photos], or sets of several."""

    dataset: Dataset
    labels: Tensor | LabelSets
    classes: int

    def targets(self, positions: np.typing.NDArray[np.int64]) -> Tensor:
        """Return probabilities [b, C]: 1 at the label, or 1/k at each of k labels."""
        targets = hot(self.labels, positions, self.classes).float()
        return targets / targets.sum(1, keepdim=True)


@dataclass
class Course:
    """A network on its way: what must survive a kill is its parameters, its buffers, and their momentum."""

    module: nn.Module
    head: str
    fresh: tuple[str, ...]
    preprocessing: Preprocessing
    settings: ClassifierSettings
    processes: Processes
    report: Reporter
    workers: int
    broken: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        settings, fabric = self.settings, self.processes.fabric
        self.module.to(fabric.device)
        groups = rate_groups(self.module, self.head, self.fresh, settings)
        self.optimizer = torch.optim.SGD(
            [{"params": parameters, "factor": factor} for factor, parameters in groups],
            lr=settings.lr,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            nesterov=settings.momentum > 0,
        )
        with self.processes.losses_told():
            self.wrapped, self.stepper = fabric.setup(self.module, self.optimizer)

    def lr(self, epoch: int) -> float:
        """Return the learning rate of pretrained layers in ``epoch`` (from 0)."""
        steps = epoch // self.settings.lr_step if self.settings.lr_step else 0
        return float(self.settings.lr * 0.1**steps)

    def epoch(self, number: int, train: Labelled, val: Labelled | None) -> ClassifierEpoch:
        """Go once through the photos in the order of (seed, epoch), then measure.

        Raises `TrainingDiverged` as soon as the loss is not finite, `DataError` where no photo can be read.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr(number) * group["factor"]
        settings, shares = self.settings, self.processes
        recipe = ViewRecipe(settings.augment, 1, settings.min_scale, settings.seed)
        photos = EpochPhotos(train.dataset, self.preprocessing, recipe, number)
        order = epoch_order(len(train.dataset), settings.seed, number)
        parts = deal(order, settings.batch_size, shares)
        sums = torch.zeros(3, dtype=torch.float64)  # loss, hits, photos of this process
        set_modes(self.module, self.head, settings)
        seed = int(np.random.SeedSequence((settings.seed, number, shares.rank)).generate_state(1)[0])
        name, left = f"epoch {number + 1}", len(order)
        with torch.random.fork_rng(devices=_cuda(self.module)), self.report.task(name, left) as advance:
            torch.manual_seed(seed)  # for dropout
            for batch in load_batches(photos, parts, self.workers):
                self._note(batch)
                sums += self._step(batch, train, sums[0], number)
                advance(min(settings.batch_size, left))
                left -= settings.batch_size
        loss, hits, seen = shares.add(sums).tolist()
        if not seen:
            first = next(iter(self.broken.values()), "in other processes")
            raise DataError(f"no photo of {train.dataset.root} can be read; the first: {first}")
        self._check(loss, number)
        shares.take_from_first(buffers(self.module))  # batch statistics are each process's own until here
        measured = (None, None, None) if val is None else self.validate(val)
        return ClassifierEpoch(number + 1, self.lr(number), loss / seen, hits / seen, *measured)

    def validate(self, val: Labelled) -> tuple[float, float, float]:
        """Return mean cross-entropy, Top-1 and Top-5 as fractions; with several labels any of them counts."""
        shares = self.processes
        photos = EpochPhotos(val.dataset, self.preprocessing, PLAIN, 0)
        order = np.arange(len(val.dataset))
        sums = torch.zeros(4, dtype=torch.float64)
        with evaluating(self.module), torch.no_grad():
            for batch in load_batches(photos, deal(order, 64 * shares.world, shares), self.workers):
                self._note(batch)
                if not len(batch.positions):
                    continue
                targets = val.targets(batch.positions)
                logits = self._logits(self.module, batch.images)
                ranked = logits.topk(min(5, val.classes), 1).indices
                found = targets.gather(1, ranked) > 0
                sums += torch.tensor(
                    [
                        float(functional.cross_entropy(logits, targets, reduction="sum")),
                        float(found[:, 0].sum()),
                        float(found.any(1).sum()),
                        len(targets),
                    ],
                    dtype=torch.float64,
                )
        loss, first, five, seen = shares.add(sums).tolist()
        if not seen:
            raise DataError(f"no validation photo of {val.dataset.root} can be read")
        return loss / seen, first / seen, five / seen

    def tensors(self) -> dict[str, Tensor]:
        """Return what must survive a kill: the network's state, and momentum by parameter."""
        found = {f"model.{name}": tensor.detach() for name, tensor in self.module.state_dict().items()}
        for name, parameter in self._learning():
            buffer = self.optimizer.state[parameter].get("momentum_buffer")
            found[f"momentum.{name}"] = torch.zeros_like(parameter) if buffer is None else buffer
        return found

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on from what `tensors` returned."""
        own = {name[6:]: tensor for name, tensor in tensors.items() if name.startswith("model.")}
        self.module.load_state_dict(own)
        for name, parameter in self._learning():
            self.optimizer.state[parameter]["momentum_buffer"] = tensors[f"momentum.{name}"].to(parameter).clone()

    def _learning(self) -> Iterator[tuple[str, nn.Parameter]]:
        return ((name, one) for name, one in self.module.named_parameters() if one.requires_grad)

    def _step(self, batch: Batch, train: Labelled, loss_so_far: Tensor, number: int) -> Tensor:
        """Take one step; return (sum of losses, hits, photos) of this process's part of the batch.

        The mean over all photos of the batch is minimized, however they are dealt: processes average gradients, so a
        process weighs its sum by their number over that of the photos.
        """
        shares, fabric = self.processes, self.processes.fabric
        told = torch.tensor([float(len(batch.positions)), float(loss_so_far)], dtype=torch.float64)
        count, loss_of_all = shares.add(told).tolist() if shares.shared else told.tolist()
        self._check(loss_of_all, number)
        if not count:
            return torch.zeros(3, dtype=torch.float64)
        images, positions, weight = batch.images, batch.positions, shares.world / count
        if not len(positions):  # the others have photos of this batch, and wait for this process's gradients: none
            images, positions, weight = torch.zeros(1, *images.shape[1:]), np.zeros(1, dtype=np.int64), 0.0
        targets = train.targets(positions)
        self.optimizer.zero_grad()
        with shares.losses_told():  # both ways: the forward synchronizes buffers, the backward gradients
            logits = scores_of(self.wrapped(fabric.to_device(images))).float()
            losses = functional.cross_entropy(logits, fabric.to_device(targets), reduction="sum")
            fabric.backward(losses * weight)
        self.stepper.step()
        if not len(batch.positions):
            return torch.zeros(3, dtype=torch.float64)
        hits = targets.gather(1, logits.detach().cpu().argmax(1, keepdim=True)).gt(0).sum()
        return torch.tensor([float(losses.detach()), float(hits), len(positions)], dtype=torch.float64)

    def _logits(self, module: nn.Module, images: Tensor) -> Tensor:
        fabric = self.processes.fabric
        with fabric.autocast():
            return scores_of(module(fabric.to_device(images))).float().cpu()

    def _note(self, batch: Batch) -> None:
        for path, text in batch.broken.items():
            if path not in self.broken:
                self.report.say(f"left out {path}: {text}")
        self.broken.update(batch.broken)

    def _check(self, loss: float, number: int) -> None:
        if not np.isfinite(loss):
            raise TrainingDiverged(
                f"the loss became {loss} in epoch {number + 1} at learning rate {self.lr(number):.3g}; the state "
                f"before this epoch is kept. Try --lr {self.settings.lr / 10:.2g}"
            )


def _cuda(module: nn.Module) -> list[Any]:
    device = next(module.parameters()).device
    return [device] if device.type == "cuda" else []
