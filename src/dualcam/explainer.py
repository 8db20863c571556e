"""The pipeline: images -> one forward -> activations -> gradients of the tail -> weights -> signed maps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict, Unpack

import torch
from torch import Tensor

from dualcam import methods
from dualcam.data.prepared import Images, Prepared, list_photos, prepare_photo, prepare_tensor
from dualcam.description import check_applicable, default_method
from dualcam.errors import ChoiceError, MethodNotApplicable, check_choice, check_size, check_whole
from dualcam.evidence import full_precision, run_head
from dualcam.examine import check_layer
from dualcam.explanation import Explanation
from dualcam.guards import evaluating
from dualcam.heatmap import only_finite
from dualcam.labels import label_probabilities
from dualcam.methods import Method
from dualcam.model import DualBranch
from dualcam.raw import make_maps
from dualcam.targets import (
    READS,
    SCORES,
    Classes,
    over_threshold,
    resolve_classes,
    settled,
    to_probabilities,
)
from dualcam.tuning import DEFAULTS, Tuning, check_read, make_tuning
from dualcam.types import Branch, BranchLogits, Fit, Fuse, Normalization, Score, Sign, Tapped


class ExplainOptions(TypedDict, total=False):
    """The options of `explain`."""

    method: str | None
    branch: Branch
    sign: Sign
    normalize: Normalization | None
    score: Score
    size: tuple[int, int] | None
    fit: Fit
    clamp: Literal["auto", "weights", "contributions"]
    batch_size: int
    tuning: Tuning | Mapping[str, float | int | None] | None
    layers: Sequence[str]
    fuse: Fuse


@dataclass(frozen=True)
class Settings:
    """The options that a batch needs, checked once."""

    method: Method
    branch: Branch
    sign: Sign
    normalize: Normalization | None
    score: Score
    size: tuple[int, int] | None
    clamp_weights: bool
    tuning: Tuning = DEFAULTS
    layers: tuple[str, ...] = ()
    fuse: Fuse = "max"


def explain(
    model: DualBranch, images: Images, classes: Classes = None, **options: Unpack[ExplainOptions]
) -> list[Explanation]:
    """Explain images with ``model``; one `Explanation` each.

    ``images``: a tensor [B, 3, H, W] preprocessed as the model takes it, a photo (PIL image or path) or several.
    ``classes``: None (the softmax branch's choice), an index, a name, "top5", "all", a sequence of those, a tensor
    [B] or [B, K] of indices per image, or "over0.5": every label whose probability by the trained sigmoid branch (see
    `dualcam.labels.label_probabilities`) is at least that, most probable first; of some photos that may be none, and
    their explanation is empty. Options, with their defaults:

    - ``method``: "cam" for linear heads, else "grad-cam"; `dualcam.methods.available` lists all;
    - ``branch="sigmoid"``: whose score is explained; ``score="logit"`` of it, or "centered", "log-odds",
      "log-probability", "probability", which no shift common to all classes can change, or "rest" (l_k + log p_k),
      "finer" (against the most similar classes);
    - ``sign="positive"`` | "signed" | "negative"; ``clamp="auto"``: clamp weights where the activations are >= 0 and
      contributions w_i F_i elsewhere, or always "weights" (the paper's rule) or "contributions";
    - ``normalize="max"`` | "minmax" | "ivr" | None (logits); ``size``: (height, width) of the maps, default the
      photo's;
    - ``tuning``: numbers of some methods and scores by name, {"gamma": 1}; `dualcam.tuning.Tuning` has them all;
    - ``layers``: paths of layers whose maps are fused, by their ``fuse="max"`` or "mean", each divided by its maximum
      (`dualcam.fusion`); the method is "layer-cam" then, unless another gradient method is named;
    - ``fit="squash"`` | "crop" | "pad": how a photo is brought to the input size; ``batch_size=16`` for photos.

    Works under no_grad, inference_mode and autocast, and in train mode (eval mode inside, restored after); leaves the
    model as it was. Raises `ChoiceError`, `ClassNotFound`, `MethodNotApplicable`, `PhotoError`.
    """
    unknown = set(options) - set(ExplainOptions.__annotations__)
    if unknown:
        raise TypeError(f"explain() has no option {', '.join(sorted(unknown))}")
    settings = check_options(model, **options)
    if isinstance(images, Tensor):
        return explain_batch(model, prepare_tensor(model.preprocessing, images), classes, settings)
    photos = list_photos(images)
    fit, batch_size = options.get("fit", "squash"), options.get("batch_size", 16)
    check_whole("batch_size", batch_size, 1)
    classes = settled(classes, len(photos))
    explanations: list[Explanation] = []
    for start in range(0, len(photos), batch_size):
        prepared = [prepare_photo(model.preprocessing, photo, fit) for photo in photos[start : start + batch_size]]
        chosen = classes[start : start + batch_size] if isinstance(classes, Tensor) else classes
        explanations += explain_batch(model, prepared, chosen, settings)
    return explanations


def check_options(model: DualBranch, **options: Unpack[ExplainOptions]) -> Settings:
    """Return checked settings for ``model``; raises `ChoiceError` and `MethodNotApplicable`."""
    branch = options.get("branch", "sigmoid")
    head = model.head(branch)
    layers, fuse = given_layers(options.get("layers", ())), options.get("fuse", "max")
    name = options.get("method")
    method = methods.get(("layer-cam" if layers else default_method(head)) if name is None else name)
    check_applicable(method, model, branch)
    check_layers(model, layers, method, fuse)
    sign, normalize = options.get("sign", "positive"), options.get("normalize", "max")
    score, clamp = options.get("score", "logit"), options.get("clamp", "auto")
    check_choice("sign", sign, ("positive", "signed", "negative"))
    check_choice("normalize", normalize, ("max", "minmax", "ivr", None))
    check_choice("score", score, SCORES)
    check_choice("clamp", clamp, ("auto", "weights", "contributions"))
    size = options.get("size")
    if size is not None:
        check_size("size", size)
    clamp_weights = clamp == "weights" or (clamp == "auto" and model.anatomy.nonnegative)
    tuning = make_tuning(options.get("tuning"))
    check_read(tuning, (*method.reads, *READS.get(score, ())), f"method {method.name!r} and score {score!r}")
    return Settings(method, branch, sign, normalize, score, size, clamp_weights, tuning, layers, fuse)


def given_layers(layers: Sequence[str]) -> tuple[str, ...]:
    """Return the paths of ``layers``; raises `ChoiceError` where it is one path, or holds modules."""
    if isinstance(layers, str):
        raise ChoiceError(f"layers={layers!r} is one layer; name several, or wrap the model with layer={layers!r}")
    paths = tuple(layers)
    for path in paths:
        if not isinstance(path, str):
            raise ChoiceError(f"layers are paths, as in layers=['layer3', 'layer4']; got {type(path).__name__}")
    return paths


def check_layers(model: DualBranch, layers: Sequence[str], method: Method, fuse: Fuse) -> None:
    """Raise `ChoiceError`, `StructureNotFound` or `MethodNotApplicable` where ``layers`` can not be fused."""
    check_choice("fuse", fuse, ("max", "mean"))
    for layer in layers:
        check_layer(model.classifier, layer)
    if layers and (method.needs_rows or method.needs):
        raise MethodNotApplicable(f"method {method.name!r} knows one layer; several are fused by gradient methods")
    if len(layers) == 1:
        raise ChoiceError(
            f"layers={layers[0]!r} is one layer; name several, or wrap the model with layer={layers[0]!r}"
        )


@dataclass(frozen=True)
class Forward:
    """One run of the model on a batch, which any number of settings read."""

    batch: Sequence[Prepared]
    tapped: Tapped

    @property
    def activations(self) -> Tensor:
        """F [B, D, h, w], without a graph."""
        return self.tapped.activations

    @property
    def logits(self) -> Tensor:
        """The softmax branch's logits [B, C]."""
        return self.tapped.logits

    def images(self, model: DualBranch) -> Tensor:
        """Return the images [B, 3, H, W] that ``model`` ran on."""
        return input_images(model, self.batch)

    def part(self, places: Sequence[int]) -> "Forward":
        """Return what it leaves of the images at ``places``."""
        return Forward([self.batch[place] for place in places], self.tapped.part(places))


def explain_batch(
    model: DualBranch, batch: Sequence[Prepared], classes: Classes, settings: Settings
) -> list[Explanation]:
    """Explain one batch with one backbone forward."""
    if not batch:
        return []
    forward = run_model(model, batch)
    index = choose_classes(model, forward, classes)
    return explain_forward(model, forward, index, settings)


def run_model(model: DualBranch, batch: Sequence[Prepared]) -> Forward:
    """Run the backbone once; `explain_forward` makes explanations of the result, for any number of settings."""
    with evaluating(model):
        return Forward(batch, model.tap(input_images(model, batch)))


def run_tensor(model: DualBranch, images: Tensor) -> Forward:
    """Do as `run_model` with preprocessed ``images`` [B, 3, H, W], which are read where they are, not stacked anew."""
    with evaluating(model):
        return Forward(prepare_tensor(model.preprocessing, images), model.tap(_placed(model, images)))


def input_images(model: DualBranch, batch: Sequence[Prepared]) -> Tensor:
    """Return the batch's images [B, 3, H, W] where ``model`` is, in its type unless the caller's autocast decides."""
    return _placed(
        model, torch.stack([item.tensor for item in batch]) if len(batch) > 1 else batch[0].tensor.unsqueeze(0)
    )


def _placed(model: DualBranch, images: Tensor) -> Tensor:
    device = model.device
    return images.to(device) if torch.is_autocast_enabled(device.type) else images.to(device, model.dtype)


def choose_classes(model: DualBranch, forward: Forward, classes: Classes) -> Tensor:
    """Return the class indices [B, K] that ``classes`` asks for (see `explain`), -1 behind a photo's last one.

    Raises `ClassNotFound`, and `ChoiceError` where labels over a threshold are asked of a branch that knows none.
    """
    least = over_threshold(classes, model.class_names)
    if least is None:
        return resolve_classes(classes, forward.logits, model.class_names)
    with torch.no_grad(), evaluating(model.sigmoid_head):
        inputs = model.sigmoid_head.input_of(forward.tapped)
        probabilities = label_probabilities(model, model.sigmoid_head(inputs))
    ordered, index = torch.sort(probabilities, dim=1, descending=True, stable=True)
    width = max(1, int((ordered >= least).sum(1).max()))
    kept: Tensor = index[:, :width].masked_fill(ordered[:, :width] < least, -1)
    return kept


def check_classes(model: DualBranch, classes: Classes) -> None:
    """Raise what `choose_classes` would, without a photo."""
    if over_threshold(classes, model.class_names) is None:
        resolve_classes(classes, torch.zeros(1, model.classes), model.class_names)
    else:
        label_probabilities(model, torch.zeros(1, model.classes, device=model.device))


def explain_forward(model: DualBranch, forward: Forward, index: Tensor, settings: Settings) -> list[Explanation]:
    """Explain the classes ``index`` [B, K] of a batch that `run_model` ran.

    -1 stands behind the last class of a photo that has fewer than K; its `Explanation` is as long as its classes. The
    backbone does not run again, but for methods that ask it further questions (`Method.needs`).
    """
    counts = (index >= 0).sum(1).tolist()
    if min(counts) < index.shape[1]:
        index = index.clamp(min=0)
    head, sigmoid, ran = model.head(settings.branch), model.sigmoid_head, None
    if not head.is_linear and not settings.layers:
        with evaluating(head):
            ran = run_head(head, forward.tapped)
    with torch.no_grad(), evaluating(sigmoid):
        if ran is not None and head is sigmoid:
            sigmoid_logits = ran.logits.gather(1, index)
        else:  # its other logits are nobody's question, and cost what their rows weigh
            sigmoid_logits = sigmoid.logits_of(sigmoid.input_of(forward.tapped), index)
    logits = BranchLogits(forward.logits.gather(1, index), sigmoid_logits)
    signed, raw = make_maps(model, forward, index, settings, ran)
    with torch.no_grad(), full_precision(forward.activations):
        signed, raw, finite = only_finite(signed, raw)
        residuals = completeness_residuals(model, settings, signed, index, logits)
        probabilities = to_probabilities(forward.logits, model.outputs)
    return [
        Explanation(
            source=item.source,
            placement=item.placement,
            indices=index[position, :count].cpu(),
            names=model.class_names,
            signed=signed[position, :count],
            raw=raw[position, :count],
            finite=finite[position, :count],
            residuals=None if residuals is None else residuals[position, :count],
            logits=BranchLogits(logits.softmax[position, :count], logits.sigmoid[position, :count]),
            probabilities=probabilities[position],
            sign=settings.sign,
            normalization=settings.normalize,
            size=settings.size,
            picture=item.picture,
        )
        for position, (item, count) in enumerate(zip(forward.batch, counts, strict=True))
    ]


def completeness_residuals(
    model: DualBranch, settings: Settings, signed: Tensor, index: Tensor, logits: BranchLogits
) -> Tensor | None:
    """Return |total(map) + bias - logit| [B, K] where the law holds: linear head, logit score, complete method.

    ``logits`` are both branches' [B, K].
    """
    head, total = model.head(settings.branch), settings.method.total
    if not head.is_linear or total is None or settings.score != "logit" or settings.layers:
        return None
    amount = signed.mean((-2, -1)) if total == "mean" else signed.sum((-2, -1))
    branch_logits = logits.sigmoid if settings.branch == "sigmoid" else logits.softmax
    with evaluating(head):  # to read a weight that a norm makes would move the norm's estimate in train mode
        bias = head.rows().bias.detach()
    return (amount + bias[index] - branch_logits).abs()
