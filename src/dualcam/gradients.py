"""Gradients of several classes' scores by the activations, at once where autograd can, else one by one."""

import torch
from torch import Tensor

CHUNK = 2**22
"""Elements of the gradients that are computed at once, 16 MiB in single precision: beyond that it gains nothing."""


def class_gradients(scores: Tensor, leaf: Tensor, *, keep_graph: bool = False, create_graph: bool = False) -> Tensor:
    """Return d scores[:, k] / d leaf, [B, K, ...], of ``scores`` [B, K] and ``leaf`` [B, ...].

    Image b's scores must depend on ``leaf[b]`` alone. All classes of a chunk are walked back together (`vmap` over the
    one graph), so a layer's weights are read once; operations without a batching rule are walked back class by class.
    ``keep_graph`` leaves the graph for another call; ``create_graph`` makes the gradients differentiable.
    """
    totals = scores.sum(0)
    step = max(1, CHUNK // max(1, leaf.numel()))
    found = []
    for start in range(0, len(totals), step):
        chunk = totals[start : start + step]
        last = start + step >= len(totals)
        found.append(_of_chunk(chunk, leaf, keep_graph=keep_graph or not last, create_graph=create_graph))
    return torch.cat(found).transpose(0, 1) if len(found) > 1 else found[0].transpose(0, 1)


def _of_chunk(totals: Tensor, leaf: Tensor, *, keep_graph: bool, create_graph: bool) -> Tensor:
    """Return the gradients [K, B, ...] of ``totals`` [K]."""
    retain = keep_graph or create_graph
    if len(totals) > 1 and not torch.is_anomaly_enabled():  # which looks at values, as a batch of gradients has none
        directions = torch.eye(len(totals), dtype=totals.dtype, device=totals.device)
        try:
            return torch.autograd.grad(
                totals, leaf, directions, retain_graph=True, create_graph=create_graph, is_grads_batched=True
            )[0]
        except RuntimeError:  # an operation that vmap does not know; what else is wrong comes again below
            pass
    each = [
        torch.autograd.grad(total, leaf, retain_graph=retain or k < len(totals) - 1, create_graph=create_graph)[0]
        for k, total in enumerate(totals)
    ]
    return torch.stack(each)
