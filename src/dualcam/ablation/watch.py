"""Training within a study: bars that come and go in the study's own progress."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import Progress

from dualcam.training.report import Reporter


class SharedReporter(Reporter):
    """Shows what is being made as a bar of ``progress``, while it is made."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show a bar while the block runs."""
        bar = self.progress.add_task(name, total=total)
        try:
            yield lambda count: self.progress.update(bar, advance=count)
        finally:
            self.progress.remove_task(bar)
