"""The course of a training run: rows, a CSV, a plot."""

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from dualcam.files import write_whole


@dataclass(frozen=True)
class Epoch:
    """One line of the history; losses as METHOD's L, accuracies as fractions of validation photos (None without).

    The mean average precisions (mAP, fractions) are there where photos have several labels.
    """

    epoch: int
    lr: float
    train_loss: float
    val_loss: float | None
    val_branch_top1: float | None
    val_softmax_top1: float | None
    val_branch_map: float | None = None
    val_softmax_map: float | None = None


MAPS = ("val_branch_map", "val_softmax_map")


def write_csv(path: Path, history: Sequence[Epoch]) -> None:
    """Write one line an epoch."""
    several = any(epoch.val_branch_map is not None for epoch in history)
    write_rows(path, [field.name for field in fields(Epoch) if several or field.name not in MAPS], history)


def write_rows(path: Path, names: Sequence[str], rows: Sequence[Any]) -> None:
    """Write the fields called ``names`` of dataclasses as CSV, whole or not at all."""
    with write_whole(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, names, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def write_plot(path: Path, history: Sequence[Epoch]) -> None:
    """Draw losses and accuracies over epochs."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    losses, accuracies = figure.subplots(1, 2)
    epochs = [row.epoch for row in history]
    several = bool(history) and history[-1].val_branch_map is not None
    figures = "Mean average precision" if several else "Top-1"
    losses.plot(epochs, [row.train_loss for row in history], marker="o", label="training")
    if history and history[-1].val_loss is not None:
        losses.plot(epochs, [row.val_loss for row in history], marker="o", label="validation")
        branch, softmax = ("val_branch_map", "val_softmax_map") if several else ("val_branch_top1", "val_softmax_top1")
        accuracies.plot(epochs, [getattr(row, branch) for row in history], marker="o", label="sigmoid branch")
        accuracies.plot(epochs, [getattr(row, softmax) for row in history], "--", label="softmax branch (frozen)")
        accuracies.legend()
    losses.set(title="Class-balanced BCE", xlabel="epoch", ylabel="loss")
    accuracies.set(title=f"{figures} on validation photos", xlabel="epoch", ylabel="fraction", ylim=(0, 1.02))
    for axes in (losses, accuracies):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    losses.legend()
    with write_whole(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
