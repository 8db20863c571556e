"""Evidence from one forward: activations, gradients of the explained scores, and what a method asks for beside them."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from dualcam.gradients import class_gradients
from dualcam.guards import evaluating
from dualcam.heads import Head
from dualcam.methods import Method
from dualcam.model import DualBranch
from dualcam.probing import LINEAR_SCORES, make_probes
from dualcam.targets import score_gradients, score_values
from dualcam.tuning import DEFAULTS, Tuning
from dualcam.types import Branch, Evidence, Score, Tapped

if TYPE_CHECKING:
    from dualcam.explainer import Forward


class HeadRun(NamedTuple):
    """A run of a head that is not linear, recorded by autograd: its logits [B, C], and the leaf that they come from."""

    leaf: Tensor
    logits: Tensor


def gather_evidence(
    head: Head,
    tapped: Tapped,
    index: Tensor,
    score: Score,
    tuning: Tuning = DEFAULTS,
    *,
    create_graph: bool = False,
    ran: HeadRun | None = None,
) -> Evidence:
    """Return activations [B, 1, D, h, w] and the gradients of the explained scores of classes ``index`` [B, K].

    Linear heads give them in closed form at no backward pass, [B, K, D, 1, 1], or [1, K, D, 1, 1] where all images are
    asked about the same classes and the score's gradient is the same for all. Other heads run again, on activations
    that are detached, so that no gradient enters the backbone or a parameter's ``.grad``; a "tail" head reads the
    features of the forward, whose graph ends at the activations, so only the tail is walked back. ``create_graph``:
    nothing is detached, and what is returned can be differentiated; a "tail" head's features must be made of the
    activations then, by operations that can be differentiated twice. ``ran`` is a run of the head that is at hand, and
    stays so.
    """
    activations = tapped.activations
    if head.is_linear:
        with torch.set_grad_enabled(create_graph):
            weight = full(head.rows().weight if create_graph else head.rows().weight.detach())
            asked = index[:1] if score in LINEAR_SCORES and index.stride(0) == 0 else index
            if score == "logit":
                rows = weight[asked]
            else:
                logits = full(head(activations[: len(asked)]))
                with full_precision(activations):
                    rows = score_gradients(logits, asked, score, tuning) @ weight
            rows = rows[..., None, None]
            cells = activations.shape[2] * activations.shape[3]
            return Evidence(full(activations).unsqueeze(1), rows / cells, rows)
    with torch.inference_mode(mode=False), torch.enable_grad():
        leaf, logits = ran or run_head(head, tapped, create_graph=create_graph)
        scores = score_values(full(logits), score, tuning).gather(1, index.clone())
        kept = ran is not None or leaf is tapped.leaf
        gradients = class_gradients(scores, leaf, keep_graph=kept, create_graph=create_graph)
        if leaf is tapped.leaf and tapped.places is not None:
            gradients = gradients[list(tapped.places)]
        return Evidence(full(activations).unsqueeze(1), full(gradients), None)


def run_head(head: Head, tapped: Tapped, *, create_graph: bool = False) -> HeadRun:
    """Run ``head``, which is not linear, on what it reads of a forward, for any number of `gather_evidence`."""
    with torch.inference_mode(mode=False), torch.enable_grad():
        leaf, inputs = tapped.leaf, head.input_of(tapped)
        if create_graph and leaf is None and tapped.activations.requires_grad:
            leaf = tapped.activations
            inputs = leaf.clone()
        elif leaf is None or not head.reads_features:
            found = tapped.activations.detach()
            leaf = (found.clone() if found.is_inference() else found).requires_grad_()
            inputs = leaf.clone()  # the head's first step may work in place
        return HeadRun(leaf, head(inputs))


def with_probes(
    evidence: Evidence,
    model: DualBranch,
    forward: "Forward",
    index: Tensor,
    method: Method,
    branch: Branch,
    score: Score,
    tuning: Tuning = DEFAULTS,
) -> Evidence:
    """Return ``evidence`` with what ``method`` declares as its needs; nothing is added where it has none."""
    if not method.needs:
        return evidence
    head = model.head(branch)

    def gradients_at(others: Tensor) -> Tensor:
        with evaluating(model):
            return gather_evidence(head, model.tap_for(head, others), index, score, tuning).gradients

    asked = (forward.images(model), index, method, branch, score, tuning)
    return replace(evidence, probes=make_probes(model, *asked, evidence.gradients, gradients_at))


def full(tensor: Tensor) -> Tensor:
    """Return ``tensor`` in at least single precision: maps are summed over channels, which half precision spoils."""
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def full_precision(tensor: Tensor) -> AbstractContextManager[object]:
    """Return a context in which no autocast of the caller turns sums over channels into half precision."""
    kind = tensor.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()
