"""What is measured on features during a run: validation, and the learning rate that is surely stable."""

import torch
from torch import Tensor

from dualcam.guards import evaluating
from dualcam.heads import Head
from dualcam.training.objective import Task


def validate(head: Head, task: Task | None) -> tuple[float | None, float | None, float | None]:
    """Return validation loss and the Top-1 of sigmoid and softmax branch, as fractions; None without photos."""
    if task is None:
        return None, None, None
    total, branch, softmax, seen = 0.0, 0, 0, 0
    device = next(head.parameters()).device
    with torch.no_grad(), evaluating(head, task.softmax_head):
        for rows, values in task.features.batches(task.rows(), 256, 0):
            features = values.to(device)
            labels = task.labels[torch.from_numpy(rows // task.features.views)].to(device)
            total += float(task.loss(head, rows, features)) * len(rows)
            branch += int((head.classify(features).argmax(1) == labels).sum())
            softmax += int((task.softmax_head.classify(features).argmax(1) == labels).sum())
            seen += len(rows)
    return total / seen, branch / seen, softmax / seen


def stable_lr(head: Head, task: Task) -> float:
    """Return a step that gradient descent surely stands: C / mean |z|^2 for linear heads, 0.001 for the others.

    The loss's curvature along a class row is at most E|z|^2 / (2 C), as positives and negatives weigh one each.
    """
    if not head.is_linear:
        return 1e-3
    rows = task.rows()
    sample = rows[:: max(1, len(rows) // 1024)]
    squares = [values.square().sum(1) for _, values in task.features.batches(sample, 256, 0)]
    mean: Tensor = torch.cat(squares).mean()
    return float(f"{head.classes / float(mean):.3g}")
