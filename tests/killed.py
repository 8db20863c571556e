"""A kill, as an exception at the end of an epoch of training."""

from dualcam.training.history import Epoch
from dualcam.training.report import Reporter


class Killed(Exception):
    pass


class KillAfter(Reporter):
    """Raises at the end of the first epoch behind ``epoch``, as a kill would stop the process there."""

    def __init__(self, epoch: int) -> None:
        self.last = epoch

    def epoch(self, row: Epoch, total: int) -> None:
        if row.epoch > self.last:
            raise Killed
