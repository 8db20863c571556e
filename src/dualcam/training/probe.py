"""Fit a pooled linear softmax head on the features of a frozen backbone (a linear probe)."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from dualcam.data.label_sets import LabelSets
from dualcam.errors import DataError
from dualcam.training.objective import Features, all_rows, hot

ITERATIONS = 200


def fit_linear_head(features: Features, labels: Tensor | LabelSets, classes: int, *, weight_decay: float) -> nn.Linear:
    """Return the linear layer that minimizes cross-entropy over all views plus weight decay; convex, from zero, L-BFGS.

    ``labels`` are the photos' class indices, [photos] or sets of several. Of a photo with k labels each is to get the
    probability 1 / k (Mahajan et al., "Exploring the Limits of Weakly Supervised Pretraining", ECCV 2018): a softmax
    still, for which all that is said of its maps holds. Features are centred and divided by one number while fitting
    (their root mean square), so that ``weight_decay`` means the same for every backbone; the layer takes them as they
    are.
    """
    if classes < 2:
        raise DataError("a classifier needs photos of at least two classes")
    batches = list(features.batches(all_rows(features), 8192, 0))
    values = torch.cat([batch for _, batch in batches]).double()
    photos = np.concatenate([index for index, _ in batches]) // features.views
    if isinstance(labels, LabelSets):
        targets = hot(labels, photos, classes).double()
        targets /= targets.sum(1, keepdim=True)
    else:
        targets = labels[torch.from_numpy(photos)]
    centre = values.mean(0)
    values -= centre
    scale = values.square().sum(1).mean().sqrt().clamp(min=1e-12)
    values /= scale
    weight = torch.zeros(classes, values.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=ITERATIONS, history_size=20, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(functional.linear(values, weight, bias), targets)
        loss = loss + weight_decay * weight.square().sum() / 2
        torch.autograd.backward([loss])
        return loss

    optimizer.step(objective)  # type: ignore[no-untyped-call]
    linear = nn.Linear(values.shape[1], classes)
    with torch.no_grad():
        linear.weight.copy_(weight / scale)
        linear.bias.copy_(bias - (weight / scale) @ centre)
    return linear
