"""Stochastic gradient descent with Nesterov momentum and a stepped learning rate: one epoch at a time."""

from collections.abc import Callable
from contextlib import nullcontext
from itertools import repeat

import numpy as np
import torch
from torch import Tensor

from dualcam.errors import TrainingDiverged
from dualcam.heads import Head
from dualcam.training.objective import Objective, decays, widest
from dualcam.training.passes import seeded, statistics_told
from dualcam.training.settings import TrainingSettings
from dualcam.training.stream import sharing

CHECK_EVERY = 20
GROWTH_LIMIT = 1e3


class Sgd:
    """Holds the optimizer of one run; epochs are functions of (parameters, momentum, epoch number) alone."""

    def __init__(
        self, head: Head, task: Objective, settings: TrainingSettings, device: torch.device, lr: float
    ) -> None:
        self.head, self.task, self.settings, self.device, self.base_lr = head, task, settings, device, lr
        self.anchors = [p.detach().clone() for p in head.parameters()] if settings.anchor == "start" else None
        self.shares = sharing(task.features)
        self.optimizer = torch.optim.SGD(
            head.parameters(),
            lr=lr,
            momentum=settings.momentum,
            nesterov=settings.momentum > 0,
            fused=True,
        )

    def lr(self, epoch: int) -> float:
        """Return the learning rate of ``epoch`` (from 0)."""
        steps = epoch // self.settings.lr_step if self.settings.lr_step else 0
        return float(self.base_lr * 0.1**steps)

    def epoch(self, number: int, first_loss: float | None, advance: Callable[[int], None]) -> float:
        """Go once through all views in the order of (seed, epoch); return the mean loss.

        What is drawn on the way (dropout) is fixed by the same. Raises `TrainingDiverged` as soon as the loss is not
        finite or a thousand times the first.
        """
        draws = seeded(self.device, self.settings.seed, 2, number) if self.head.training else nullcontext()
        with draws:
            return self._epoch(number, first_loss, advance)

    def _epoch(self, number: int, first_loss: float | None, advance: Callable[[int], None]) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr(number)
        order = np.random.default_rng((self.settings.seed, 1, number)).permutation(self.task.rows())
        total, seen = torch.zeros((), dtype=widest(self.device), device=self.device), 0
        batches = self.task.features.batches(order, self.settings.batch_size, number)
        for step, (rows, features) in enumerate(batches):
            loss, count = self._step(rows, features.to(self.device))
            total += loss.to(total.dtype) * count
            seen += count
            advance(count)
            if step % CHECK_EVERY == 0:
                self._check(float(loss), number, first_loss)
        mean = float(total / max(seen, 1))
        self._check(mean, number, first_loss)
        return mean

    def tensors(self) -> dict[str, Tensor]:
        """Return what must survive a kill: parameters, their momentum, and buffers, which norms in train mode move."""
        found = {f"buffer.{name}": buffer for name, buffer in self.head.named_buffers()}
        for name, parameter in self.head.named_parameters():
            found[f"parameter.{name}"] = parameter.detach()
            buffer = self.optimizer.state[parameter].get("momentum_buffer")
            found[f"momentum.{name}"] = torch.zeros_like(parameter) if buffer is None else buffer
        return found

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on from what `tensors` returned."""
        with torch.no_grad():
            for name, kept in self.head.named_buffers():
                kept.copy_(tensors[f"buffer.{name}"])
            for name, parameter in self.head.named_parameters():
                parameter.copy_(tensors[f"parameter.{name}"])
                self.optimizer.state[parameter]["momentum_buffer"] = tensors[f"momentum.{name}"].to(parameter).clone()

    @property
    def converged(self) -> bool:
        """Never: the number of epochs ends it."""
        return False

    def _parameters(self) -> list[torch.nn.Parameter]:
        return list(self.head.parameters())

    def _step(self, rows: np.typing.NDArray[np.int64], features: Tensor) -> tuple[Tensor, int]:
        """Take a step on a batch, or this process's part of it; return the batch's mean loss and rows."""
        count = int(self.shares.add(torch.tensor([len(rows)]))) if self.shares.shared else len(rows)
        if not count:
            return torch.zeros((), device=self.device), 0
        self.optimizer.zero_grad()
        loss = torch.zeros((), device=self.device)
        if len(rows):
            with statistics_told(len(rows)):
                loss = self.task.loss(self.head, rows, features)
            if len(rows) < count:
                loss = loss * (len(rows) / count)
            torch.autograd.backward([loss])
        if self.shares.shared:
            loss = self._add_up(loss)
        with torch.no_grad():  # not the optimizer's own decay, which knows only zero, and spares no bias
            for parameter, anchor in zip(self._parameters(), self.anchors or repeat(None)):  # noqa: B905
                if parameter.grad is not None and decays(parameter) and self.settings.weight_decay:
                    distance = parameter if anchor is None else parameter - anchor
                    parameter.grad.add_(distance, alpha=self.settings.weight_decay)
        self.optimizer.step()
        return loss.detach(), count

    def _add_up(self, loss: Tensor) -> Tensor:
        """Add the gradients of all processes, in place, and return the sum of their losses."""
        parameters = [parameter for parameter in self._parameters() if parameter.requires_grad]
        own = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        total: Tensor = self.shares.add(torch.cat([*(part.flatten() for part in own), loss.detach().reshape(1)]))
        start = 0
        for parameter in parameters:
            end = start + parameter.numel()
            parameter.grad = total[start:end].view_as(parameter).clone()
            start = end
        return total[-1]

    def _check(self, loss: float, epoch: int, first_loss: float | None) -> None:
        if np.isfinite(loss) and (first_loss is None or loss < GROWTH_LIMIT * first_loss):
            return
        raise TrainingDiverged(
            f"the loss became {loss:.3g} in epoch {epoch + 1} at learning rate {self.lr(epoch):.3g}: too high a rate; "
            f"the state before this epoch is kept. Try --lr {self.base_lr / 10:.2g}"
        )
