"""Stochastic gradient descent with Nesterov momentum and a stepped learning rate: one epoch at a time."""

from collections.abc import Callable
from itertools import repeat

import numpy as np
import torch
from torch import Tensor

from dualcam.errors import TrainingDiverged
from dualcam.heads import Head
from dualcam.training.objective import Objective, decays
from dualcam.training.settings import TrainingSettings

CHECK_EVERY = 20
GROWTH_LIMIT = 1e3


class Sgd:
    """Holds the optimizer of one run; epochs are functions of (parameters, momentum, epoch number) alone."""

    def __init__(
        self, head: Head, task: Objective, settings: TrainingSettings, device: torch.device, lr: float
    ) -> None:
        self.head, self.task, self.settings, self.device, self.base_lr = head, task, settings, device, lr
        self.anchors = [p.detach().clone() for p in head.parameters()] if settings.anchor == "start" else None
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

        Raises `TrainingDiverged` as soon as the loss is not finite or a thousand times the first.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr(number)
        order = np.random.default_rng((self.settings.seed, 1, number)).permutation(self.task.rows())
        total, seen = torch.zeros((), dtype=torch.float64, device=self.device), 0
        batches = self.task.features.batches(order, self.settings.batch_size, number)
        for step, (rows, features) in enumerate(batches):
            loss = self._step(rows, features.to(self.device))
            total += loss.double() * len(rows)
            seen += len(rows)
            advance(len(rows))
            if step % CHECK_EVERY == 0:
                self._check(float(loss), number, first_loss)
        mean = float(total / max(seen, 1))
        self._check(mean, number, first_loss)
        return mean

    def tensors(self) -> dict[str, Tensor]:
        """Return what must survive a kill: parameters and their momentum."""
        found: dict[str, Tensor] = {}
        for name, parameter in self.head.named_parameters():
            found[f"parameter.{name}"] = parameter.detach()
            buffer = self.optimizer.state[parameter].get("momentum_buffer")
            found[f"momentum.{name}"] = torch.zeros_like(parameter) if buffer is None else buffer
        return found

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on from what `tensors` returned."""
        with torch.no_grad():
            for name, parameter in self.head.named_parameters():
                parameter.copy_(tensors[f"parameter.{name}"])
                self.optimizer.state[parameter]["momentum_buffer"] = tensors[f"momentum.{name}"].to(parameter).clone()

    @property
    def converged(self) -> bool:
        """Never: the number of epochs ends it."""
        return False

    def _parameters(self) -> list[torch.nn.Parameter]:
        return list(self.head.parameters())

    def _step(self, rows: np.typing.NDArray[np.int64], features: Tensor) -> Tensor:
        self.optimizer.zero_grad()
        loss = self.task.loss(self.head, rows, features)
        torch.autograd.backward([loss])
        with torch.no_grad():  # not the optimizer's own decay, which knows only zero, and spares no bias
            for parameter, anchor in zip(self._parameters(), self.anchors or repeat(None)):  # noqa: B905
                if parameter.grad is not None and decays(parameter) and self.settings.weight_decay:
                    distance = parameter if anchor is None else parameter - anchor
                    parameter.grad.add_(distance, alpha=self.settings.weight_decay)
        self.optimizer.step()
        return loss.detach()

    def _check(self, loss: float, epoch: int, first_loss: float | None) -> None:
        if np.isfinite(loss) and (first_loss is None or loss < GROWTH_LIMIT * first_loss):
            return
        raise TrainingDiverged(
            f"the loss became {loss:.3g} in epoch {epoch + 1} at learning rate {self.lr(epoch):.3g}: too high a rate; "
            f"the state before this epoch is kept. Try --lr {self.base_lr / 10:.2g}"
        )
