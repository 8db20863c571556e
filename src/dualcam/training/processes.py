"""The processes that share a run: which this one is, and how they meet. One process alone is the usual case."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dualcam.errors import ProcessLost

_SIGNS = ("gloo", "nccl", "connection closed", "connection reset", "timed out", "process group", "broken pipe")


@dataclass(frozen=True)
class Processes:
    """Number ``rank`` of ``world`` is this process; ``fabric`` is Lightning Fabric's object, None for one process."""

    rank: int = 0
    world: int = 1
    fabric: Any = None
    timeout: float = 1800.0

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and talks."""
        return self.rank == 0

    @property
    def shared(self) -> bool:
        """Whether there are others."""
        return self.world > 1

    def meet(self) -> None:
        """Wait for all processes."""
        if self.shared:
            with self.losses_told():
                self.fabric.barrier()

    def add(self, value: Tensor) -> Tensor:
        """Return the sum of all processes' ``value``, on its own device."""
        if not self.shared:
            return value
        moved = value.to(self.fabric.device, copy=True)
        with self.losses_told():
            torch.distributed.all_reduce(moved)
        return moved.to(value.device)

    def take_from_first(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite ``tensors`` by those of the first process."""
        if self.shared:
            with self.losses_told():
                for tensor in tensors:
                    torch.distributed.broadcast(tensor, 0)

    def gather(self, value: Any) -> list[Any]:
        """Return every process's ``value``, by rank."""
        if not self.shared:
            return [value]
        found: list[Any] = [None] * self.world
        with self.losses_told():
            torch.distributed.all_gather_object(found, value)
        return found

    @contextmanager
    def losses_told(self) -> Iterator[None]:
        """Raise `ProcessLost` where the block fails because another process is gone or silent."""
        try:
            yield
        except RuntimeError as error:
            text = str(error).lower()
            if not self.shared or not any(sign in text for sign in _SIGNS):
                raise
            raise ProcessLost(
                f"process {self.rank} of {self.world} lost another one: it ended, or did not answer within "
                f"{self.timeout:g} s (--timeout); its own message, if it had any, stands above. The state after the "
                "last whole epoch is kept: go on with --resume"
            ) from error


ALONE = Processes()
