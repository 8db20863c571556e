"""The course of a training run: rows, a CSV, a plot."""

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from dualcam.files import write_whole


@dataclass(frozen=True)
class Epoch:
    """One line of the history; losses as METHOD's L, accuracies as fractions of validation photos (None without)."""

    epoch: int
    lr: float
    train_loss: float
    val_loss: float | None
    val_branch_top1: float | None
    val_softmax_top1: float | None


def write_csv(path: Path, history: Sequence[Epoch]) -> None:
    """Write one line an epoch."""
    with write_whole(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, [field.name for field in fields(Epoch)])
        writer.writeheader()
        writer.writerows(asdict(epoch) for epoch in history)


def write_plot(path: Path, history: Sequence[Epoch]) -> None:
    """Draw losses and accuracies over epochs."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    losses, accuracies = figure.subplots(1, 2)
    epochs = [row.epoch for row in history]
    losses.plot(epochs, [row.train_loss for row in history], marker="o", label="training")
    if history and history[-1].val_loss is not None:
        losses.plot(epochs, [row.val_loss for row in history], marker="o", label="validation")
        top1 = [row.val_branch_top1 for row in history]
        accuracies.plot(epochs, top1, marker="o", label="sigmoid branch")
        accuracies.plot(epochs, [row.val_softmax_top1 for row in history], "--", label="softmax branch (frozen)")
        accuracies.legend()
    losses.set(title="Class-balanced BCE", xlabel="epoch", ylabel="loss")
    accuracies.set(title="Top-1 on validation photos", xlabel="epoch", ylabel="fraction", ylim=(0, 1.02))
    for axes in (losses, accuracies):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    losses.legend()
    with write_whole(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
