"""Class-balanced binary cross-entropy, the sigmoid branch's loss."""

import torch
from torch import Tensor
from torch.nn import functional

from dualcam.errors import check_choice
from dualcam.types import Balance


def class_balanced_bce(
    logits: Tensor, targets: Tensor, positive_weight: Tensor, classes: Tensor | None = None
) -> Tensor:
    """Return L = 1/(B C) sum_nk [-p_k y_nk log sigma(s_nk) - (1 - y_nk) log(1 - sigma(s_nk))].

    ``logits`` s and ``targets`` y are [B, C], y in [0, 1] (one-hot, multi-hot or soft); ``positive_weight`` p is [C].
    ``classes`` [C], boolean, leaves the others out of the mean. At zero logits, one label and p = C - 1,
    L = 2 ln 2 (C - 1) / C.
    """
    losses = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none", pos_weight=positive_weight)
    return losses.mean() if classes is None else losses[:, classes].mean()


def positive_weights(
    labels: Tensor, classes: int, balance: Balance, photos: int | None = None, *, counted: int | None = None
) -> Tensor:
    """Return p [C]: c - 1 ("uniform"; 1 for a single logit), (N - N_k) / N_k ("frequency") or 1 ("none").

    ``labels`` are the class indices of the N training photos, one after the other; ``photos`` is N where photos have
    several, each of them once (default: one each). ``counted`` is c, the number of classes that the loss is the mean
    over (default: all C): a class has its positives in one photo of c, and positives and negatives are to weigh the
    same. A class without photos gets c - 1 under "frequency".
    """
    check_choice("balance", balance, ("uniform", "frequency", "none"))
    if balance == "none":
        return torch.ones(classes)
    others = (classes if counted is None else counted) - 1
    uniform = torch.full((classes,), float(max(others, 1)))
    if balance == "uniform":
        return uniform
    counts = torch.bincount(labels, minlength=classes).float()
    total = len(labels) if photos is None else photos
    return torch.where(counts > 0, (total - counts) / counts.clamp(min=1), uniform)
