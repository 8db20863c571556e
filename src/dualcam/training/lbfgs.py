"""L-BFGS on all views at once: a pooled linear branch on fixed features is a convex problem, solved to its optimum."""

from collections.abc import Callable
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor

from dualcam.errors import TrainingDiverged
from dualcam.heads import Head
from dualcam.training.objective import Objective, decay, widest
from dualcam.training.settings import TrainingSettings

ITERATIONS = 25
ROWS_AT_ONCE = 4096
RELATIVE_GAIN = 1e-7


class Lbfgs:
    """One epoch is a round of at most 25 iterations in double precision that starts without memory of the last.

    So the parameters are the whole state, and a resumed run is the uninterrupted one. It has converged when a round
    lowers the objective by less than a ten-millionth.
    """

    def __init__(self, head: Head, task: Objective, settings: TrainingSettings, device: torch.device) -> None:
        self.head, self.task, self.settings = head, task, settings
        self.device = device if widest(device) == torch.float64 else torch.device("cpu")
        self.exact = deepcopy(head).to(self.device).double()
        self.anchors = [p.detach().clone() for p in self.exact.parameters()] if settings.anchor == "start" else None
        self.rows = task.rows()
        self.last: float | None = None
        self.converged = False

    def lr(self, epoch: int) -> float:
        """Return 1: the line search finds the step."""
        del epoch
        return 1.0

    def epoch(self, number: int, first_loss: float | None, advance: Callable[[int], None]) -> float:
        """Run one round; return the mean loss with its weight decay. Raises `TrainingDiverged` if it is not finite."""
        del first_loss
        optimizer = torch.optim.LBFGS(
            self.exact.parameters(),
            max_iter=ITERATIONS,
            history_size=ITERATIONS,
            line_search_fn="strong_wolfe",
            tolerance_grad=0,
            tolerance_change=0,
        )
        value = float(optimizer.step(self._objective))  # type: ignore[no-untyped-call]
        with torch.no_grad():
            reached = float(self._objective())
        if not np.isfinite(reached):
            raise TrainingDiverged(f"the objective became {reached} in round {number + 1}; try more --weight-decay")
        self.converged = value - reached <= RELATIVE_GAIN * abs(value)
        with torch.no_grad():
            for ours, theirs in zip(self.head.parameters(), self.exact.parameters(), strict=True):
                ours.copy_(theirs)
        advance(len(self.rows))
        return reached

    def tensors(self) -> dict[str, Tensor]:
        """Return the parameters in double precision: all that must survive a kill."""
        return {f"parameter.{name}": parameter.detach() for name, parameter in self.exact.named_parameters()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on from what `tensors` returned."""
        with torch.no_grad():
            for (name, exact), ours in zip(self.exact.named_parameters(), self.head.parameters(), strict=True):
                exact.copy_(tensors[f"parameter.{name}"])
                ours.copy_(exact)

    def _objective(self) -> Tensor:
        """Return the mean loss over all rows plus decay, with its gradient in ``.grad``."""
        wants_gradient = torch.is_grad_enabled()
        self.exact.zero_grad()
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for rows, features in self.task.features.batches(self.rows, ROWS_AT_ONCE, 0):
            part = self.task.loss(self.exact, rows, features.to(self.device, torch.float64)) * (
                len(rows) / len(self.rows)
            )
            if wants_gradient:
                torch.autograd.backward([part])
            total += part.detach()
        penalty = self.settings.weight_decay * decay(self.exact, self.anchors)
        if wants_gradient:
            torch.autograd.backward([penalty])
        return total + penalty.detach()
