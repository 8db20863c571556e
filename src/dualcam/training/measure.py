"""What is measured on features during a run: validation, and the learning rate that is surely stable."""

from typing import TypedDict

import torch
from torch import Tensor

from dualcam.data.label_sets import LabelSets
from dualcam.guards import evaluating
from dualcam.heads import Head
from dualcam.metrics.label_ap import mean_average_precision
from dualcam.training.objective import Objective, Task, hot
from dualcam.training.stream import sharing


class Validation(TypedDict):
    """The part of an `Epoch` that is measured on validation photos."""

    val_loss: float | None
    val_branch_top1: float | None
    val_softmax_top1: float | None
    val_branch_map: float | None
    val_softmax_map: float | None


def validate(head: Head, task: Task | None) -> Validation:
    """Return validation loss, and Top-1 of sigmoid and softmax branch as fractions; None without photos.

    Where photos have several labels, Top-1 is the share of photos whose highest class is one of them, and mAP the mean
    over classes of the average precision (None with one label a photo).
    """
    found = Validation(
        val_loss=None, val_branch_top1=None, val_softmax_top1=None, val_branch_map=None, val_softmax_map=None
    )
    if task is None:
        return found
    total, branch, softmax, seen = 0.0, 0.0, 0.0, 0.0
    scores: list[tuple[Tensor, Tensor, Tensor]] = []
    device = next(head.parameters()).device
    with torch.no_grad(), evaluating(head, task.softmax_head):
        for rows, values in task.features.batches(task.rows(), 256, 0):
            if not len(rows):
                continue
            features = values.to(device)
            truth = hot(task.labels, rows // task.features.views, task.softmax_head.classes).to(device)
            total += float(task.loss(head, rows, features)) * len(rows)
            ours, theirs = head.classify(features), task.softmax_head.classify(features)
            branch += int(truth.gather(1, ours.argmax(1, keepdim=True)).sum())
            softmax += int(truth.gather(1, theirs.argmax(1, keepdim=True)).sum())
            seen += len(rows)
            if isinstance(task.labels, LabelSets):
                scores.append((truth.cpu(), ours.float().cpu(), theirs.float().cpu()))
    shares = sharing(task.features)
    sums = torch.tensor([total, branch, softmax, seen], dtype=torch.float64)
    total, branch, softmax, seen = shares.add(sums).tolist()
    found["val_loss"], found["val_branch_top1"], found["val_softmax_top1"] = total / seen, branch / seen, softmax / seen
    if isinstance(task.labels, LabelSets):
        everyones = [part for parts in shares.gather(scores) for part in parts]
        wanted, sigmoid, plain = (torch.cat(parts).numpy() for parts in zip(*everyones, strict=True))
        found["val_branch_map"] = mean_average_precision(sigmoid, wanted)
        found["val_softmax_map"] = mean_average_precision(plain, wanted)
    return found


def stable_lr(head: Head, task: Objective, classes: int) -> float:
    """Return a step that gradient descent surely stands: C / (mean |z|^2 + 1) for affine heads, 0.001 for the others.

    The loss is the mean over C ``classes``. Its curvature along a row and its bias is at most E(|z|^2 + 1) / (2 C), as
    positives and negatives weigh one each; the bias's 1 counts where features are tiny. Cross-entropy is no such mean,
    and its curvature at most E(|z|^2 + 1) / 2: C is 1. Of heads that read tokens, |z|^2 is the mean over those.
    """
    if not head.is_affine:
        return 1e-3
    rows = task.rows()
    sample = rows[:: max(1, len(rows) // 1024)]
    squares = [values.double().square().sum(-1).flatten() for _, values in task.features.batches(sample, 256, 0)]
    own = torch.cat(squares)
    total, count = sharing(task.features).add(torch.tensor([float(own.sum()), len(own)], dtype=torch.float64)).tolist()
    return float(f"{classes / (total / count + 1):.3g}")
