"""Maps as one tensor, for those who compute with them or train on them."""

from typing import Unpack

import torch
from torch import Tensor

from dualcam.data.prepared import prepare_tensor
from dualcam.errors import ChoiceError, MethodNotApplicable
from dualcam.evidence import gather_evidence
from dualcam.explainer import (
    ExplainOptions,
    Forward,
    check_options,
    choose_classes,
    run_model,
)
from dualcam.guards import evaluating
from dualcam.heatmap import combine, weight_parts
from dualcam.model import DualBranch
from dualcam.raw import make_maps
from dualcam.targets import Classes
from dualcam.types import Tapped


def evidence_maps(
    model: DualBranch,
    images: Tensor,
    classes: Classes = None,
    *,
    create_graph: bool = False,
    **options: Unpack[ExplainOptions],
) -> Tensor:
    """Return the raw maps [B, K, h, w] of preprocessed ``images`` [B, 3, H, W], at feature size, not normalized.

    ``classes`` and the options ``method``, ``branch``, ``sign``, ``score``, ``clamp`` and ``tuning`` are `explain`'s,
    and the maps are those of its explanations (``raw``).

    With ``create_graph`` the maps can be differentiated by the images, by the backbone's parameters and by the
    branch's, as far as these require gradients: both factors, activations and weights, carry their graph. The choice of
    classes, and Finer-CAM's of similar ones, is a constant; at the rectifiers of signs and methods the gradient is one
    of the two sides'. The model computes in eval mode and is put back: batch statistics and dropout are not trained
    through maps. Where the head is the last layer alone (kind "tail") the model runs recorded, with attention by plain
    operations, as fused kernels have no second derivative. For methods that ask for further forwards (`Method.needs`)
    and maps of several layers in one there is no such graph: `MethodNotApplicable`.
    """
    unread = set(options) & {"normalize", "size", "fit", "batch_size"}
    if unread:
        raise ChoiceError(f"{', '.join(sorted(unread))}: these maps are raw, at feature size; leave it out")
    settings = check_options(model, **options)
    if not isinstance(images, Tensor) or not len(images):
        came = f"a batch {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        raise ChoiceError(f"images must be a tensor [B, 3, H, W] of at least one; got {came}; photos are `explain`'s")
    batch = prepare_tensor(model.preprocessing, images.detach())
    if not create_graph:
        forward = run_model(model, batch)
        return make_maps(model, forward, choose_classes(model, forward, classes), settings)[1]
    head = model.head(settings.branch)
    if settings.method.needs or settings.layers:
        what = "several layers in one" if settings.layers else f"method {settings.method.name!r}"
        raise MethodNotApplicable(f"maps of {what} can not be differentiated; see `evidence_maps` for those that can")
    with torch.enable_grad(), evaluating(model):
        tapped = _tapped(model, images.to(model.device, model.dtype))
        index = choose_classes(model, Forward(batch, tapped), classes)
        evidence = gather_evidence(head, tapped, index, settings.score, settings.tuning, create_graph=True)
        parts = weight_parts(settings.method, evidence)
        return combine(parts, evidence.activations, settings.sign, clamp_weights=settings.clamp_weights)


def _tapped(model: DualBranch, images: Tensor) -> Tapped:
    """Return what one forward leaves for both heads, with the graph of everything."""
    if model.softmax_head.reads_features:
        return model.tail().tap_with_graph(images)
    activations, logits = model.activations_and_logits(images)
    return Tapped(activations, logits.detach(), activations)
