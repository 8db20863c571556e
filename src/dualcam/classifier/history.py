"""The course of a classifier's training: rows, a CSV, a plot."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from dualcam.files import write_whole
from dualcam.training.history import write_rows


@dataclass(frozen=True)
class ClassifierEpoch:
    """One line of the history; mean cross-entropy, accuracies as fractions (None without validation photos)."""

    epoch: int
    lr: float
    train_loss: float
    train_top1: float
    val_loss: float | None
    val_top1: float | None
    val_top5: float | None

    def __str__(self) -> str:
        text = f"lr {self.lr:.3g}  loss {self.train_loss:.4f}, Top-1 {self.train_top1:.3f}"
        if self.val_loss is not None:
            text += f"  validation: loss {self.val_loss:.4f}, Top-1 {self.val_top1:.3f}, Top-5 {self.val_top5:.3f}"
        return text


def write_csv(path: Path, history: Sequence[ClassifierEpoch]) -> None:
    """Write one line an epoch."""
    write_rows(path, [field.name for field in fields(ClassifierEpoch)], history)


def write_plot(path: Path, history: Sequence[ClassifierEpoch]) -> None:
    """Draw losses and accuracies over epochs."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    losses, accuracies = figure.subplots(1, 2)
    epochs = [row.epoch for row in history]
    for axes, name in ((losses, "loss"), (accuracies, "top1")):
        axes.plot(epochs, [getattr(row, f"train_{name}") for row in history], marker="o", label="training, augmented")
        if history and history[-1].val_loss is not None:
            axes.plot(epochs, [getattr(row, f"val_{name}") for row in history], marker="o", label="validation")
        axes.legend()
        axes.grid(alpha=0.3)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    losses.set(title="Cross-entropy", xlabel="epoch", ylabel="loss")
    accuracies.set(title="Top-1", xlabel="epoch", ylabel="fraction", ylim=(0, 1.02))
    with write_whole(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
