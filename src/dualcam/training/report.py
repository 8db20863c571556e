"""What a training run tells whoever watches: nothing by default, a terminal if asked."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from dualcam.training.cache import FeatureCache
from dualcam.training.history import Epoch


class Reporter:
    """Silent; `TerminalReporter` shows bars and lines."""

    def __enter__(self) -> "Reporter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Callable[[int], None]]:
        """Give a function that is told how much more is done of ``total``."""
        del name, total
        yield lambda count: None

    def say(self, text: str) -> None:
        """Tell a fact."""

    def epoch(self, row: Epoch, total: int) -> None:
        """Tell the result of an epoch."""

    def cache(self, features: FeatureCache, what: str) -> None:
        """Tell where features are kept, and which photos could not be read."""


class TerminalReporter(Reporter):
    """Progress bars with the time that is left, and a line an epoch, on standard error."""

    def __enter__(self) -> "TerminalReporter":
        from dualcam.progress import progress_bar

        self._bar = progress_bar()
        self._progress = self._bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.__exit__(kind, error, trace)

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show a bar while the block runs."""
        task = self._progress.add_task(name, total=total)
        yield lambda count: self._progress.update(task, advance=count)
        self._progress.update(task, completed=total)

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        self._progress.console.print(text, highlight=False)

    def epoch(self, row: Epoch, total: int) -> None:
        """Print the epoch's loss and accuracies."""
        text = f"epoch {row.epoch}/{total}  lr {row.lr:.3g}  loss {row.train_loss:.5f}"
        if row.val_loss is not None:
            text += f"  validation: loss {row.val_loss:.5f}, Top-1 {row.val_branch_top1:.3f} sigmoid"
            text += f", {row.val_softmax_top1:.3f} softmax"
        if row.val_branch_map is not None:
            text += f", mAP {row.val_branch_map:.3f} sigmoid, {row.val_softmax_map:.3f} softmax"
        self.say(text)

    def cache(self, features: FeatureCache, what: str) -> None:
        """Print where the features are, and the photos left out."""
        state = "computed" if features.was_built else "found"
        self.say(f"features of {what} photos {state}: {features.megabytes:.1f} MB in {features.path}")
        for path, reason in features.broken.items():
            self.say(f"left out {path}: {reason}")
