"""`DualBranch`: a frozen classifier with its softmax head, and a sigmoid head beside it."""

from copy import deepcopy
from typing import TYPE_CHECKING, Any, Unpack

import torch
from torch import Tensor, nn

from dualcam.adapter import Adapter
from dualcam.anatomy import Anatomy
from dualcam.capture import tapped
from dualcam.data.preprocessing import Preprocessing
from dualcam.errors import ModelError, check_choice
from dualcam.guards import evaluating
from dualcam.heads import Head
from dualcam.tail import Tail
from dualcam.types import Branch, BranchLogits, Outputs, Tapped

if TYPE_CHECKING:
    from dualcam.acceleration.optimize import Optimization
    from dualcam.explainer import ExplainOptions
    from dualcam.explanation import Explanation


class DualBranch(nn.Module):
    """Backbone and softmax head as they were, and a sigmoid head: a deep copy of the softmax head until it is trained.

    The softmax branch is the wrapped model's own forward, so its logits are the model's, bit for bit. A head fitted
    for other classes (``fitted_head``) takes its place; the model then runs up to the tapped layer only.

    ``outputs`` says what makes probabilities of that branch's logits: a softmax over classes that exclude each other,
    or, where the wrapped model was trained for labels that do not, a sigmoid each. The frozen branch is called the
    softmax branch in both cases.
    """

    def __init__(
        self,
        classifier: nn.Module,
        anatomy: Anatomy,
        preprocessing: Preprocessing,
        *,
        class_names: tuple[str, ...] | None = None,
        source: str | None = None,
        fitted_head: Head | None = None,
        outputs: Outputs = "softmax",
        adapter: Adapter | None = None,
    ) -> None:
        super().__init__()
        self.classifier = classifier
        self.anatomy = anatomy
        self.preprocessing = preprocessing
        self.class_names = class_names
        self.source = source
        self.fitted_head = fitted_head
        self.outputs: Outputs = outputs
        self.adapter = adapter or Adapter()
        self.training_record: dict[str, Any] | None = None
        self.optimization: Optimization | None = None
        with torch.inference_mode(mode=False):  # a copy made inside of it could never be differentiated
            self.sigmoid_head = deepcopy(self.softmax_head)
        # Only our own parts follow the classifier: its submodules may be in modes of their own.
        self.training = classifier.training
        self.sigmoid_head.train(classifier.training)

    @property
    def softmax_head(self) -> Head:
        """The head that classifies: the wrapped model's own modules, or the fitted head."""
        return self.anatomy.head if self.fitted_head is None else self.fitted_head

    @property
    def classes(self) -> int:
        """Number of classes C."""
        return self.softmax_head.classes

    @property
    def device(self) -> torch.device:
        """Device of the wrapped model's parameters."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Floating point type of the wrapped model's parameters."""
        return next(parameter.dtype for parameter in self.parameters() if parameter.is_floating_point())

    def head(self, branch: Branch) -> Head:
        """Return the head of ``branch``; raises `ChoiceError`."""
        check_choice("branch", branch, ("sigmoid", "softmax"))
        return self.sigmoid_head if branch == "sigmoid" else self.softmax_head

    def forward(self, images: Tensor) -> BranchLogits:
        """Return both branches' logits [B, C] of preprocessed ``images`` [B, 3, H, W] from one pass.

        What the sigmoid head reads is detached: no gradient of that branch reaches the backbone.
        """
        if self.softmax_head.reads_features:
            logits, features = self.tail().read(images)
            return BranchLogits(logits, self.sigmoid_head(features.detach()))
        activations, logits = self.activations_and_logits(images)
        return BranchLogits(logits, self.sigmoid_head(activations.detach()))

    def tap(self, images: Tensor) -> Tapped:
        """Return what one forward leaves for both heads, without a graph but that of a "tail" head's features."""
        if self.softmax_head.reads_features:
            return self.tail().tap(images)
        with torch.no_grad():
            activations, logits = self.activations_and_logits(images)
        return Tapped(activations, logits, activations)

    def tap_for(self, head: Head, images: Tensor) -> Tapped:
        """Return what ``head``'s gradients need of a forward: the logits are left out, where they would cost more."""
        if head.reads_features:
            return self.tail().tap(images)
        with torch.no_grad():
            activations = self.activations(images)
        return Tapped.of(activations)

    def logits_at(self, head: Head, images: Tensor, activations: Tensor) -> Tensor:
        """Return the logits [B, C] of ``head`` if the tapped layer gave ``activations`` [B, D, h, w] for ``images``.

        A head of kind "tail" runs the model again, with the activations in the layer's place; others read them.
        """
        inputs = self.tail().through(images, lambda _: activations)[1] if head.reads_features else activations
        logits: Tensor = head(inputs)
        return logits

    def training_inputs(self, head: Head, images: Tensor) -> Tensor:
        """Return what ``head`` is trained on, [B, ...]; the model is left as soon as that is known."""
        return head.reduce(self.tail().features(images) if head.reads_features else self.activations(images))

    def tail(self) -> Tail:
        """Return the part of the wrapped model that a head of kind "tail" leaves to it."""
        layers = [self.classifier.get_submodule(path) for path in (self.anatomy.layer, *self.anatomy.readers)]
        return Tail(self._logits, layers[0], self.anatomy.cells, tuple(layers[1:]))

    def activations_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return F [B, D, h, w] and the softmax branch's logits [B, C] from one forward of the wrapped model."""
        if self.fitted_head is not None:
            activations = self.activations(images)
            return activations, self.fitted_head(activations)
        with tapped(self.classifier.get_submodule(self.anatomy.layer)) as tap:
            logits = self._logits(images)
        return self._tapped_activations(tap.value, images), logits

    def activations(self, images: Tensor) -> Tensor:
        """Return F [B, D, h, w]; the wrapped model runs up to the tapped layer only, where F is complete there."""
        layer = self.classifier.get_submodule(self.anatomy.layer)
        with tapped(layer, skip_tail=self.anatomy.can_stop_early) as tap:
            self._logits(images)
        return self._tapped_activations(tap.value, images)

    def explain(self, images: Any, classes: Any = None, **options: Unpack["ExplainOptions"]) -> list["Explanation"]:
        """Explain ``images``; see `dualcam.explainer.explain` for every option and what comes back."""
        from dualcam.explainer import explain

        return explain(self, images, classes, **options)

    def describe(self) -> str:
        """Say what was found: source, head kind, tapped layer, preprocessing, cost, laws and methods."""
        from dualcam.description import describe

        return describe(self)

    def save(self, directory: Any) -> None:
        """Write the trained branch as a checkpoint directory; see `dualcam.checkpoint.save`."""
        from dualcam.checkpoint import save

        save(self, directory)

    def _logits(self, images: Tensor) -> Tensor:
        return self.adapter.logits(self.classifier, images)

    def _tapped_activations(self, output: Tensor | None, images: Tensor) -> Tensor:
        if output is None:
            raise ModelError(f"the forward did not run layer {self.anatomy.layer!r}; wrap the model again")
        return self.anatomy.to_activations(output, (images.shape[-2], images.shape[-1]))


def clone_head(model: DualBranch, start: str = "clone", *, seed: int = 0) -> Head:
    """Return a new sigmoid head: ``clone`` of the softmax head, ``centered`` (clone minus the mean row), or ``random``.

    ``centered`` subtracts the mean over classes from the last layer's weight and bias, which removes the shift
    common to all classes. ``random`` draws the last layer from N(0, 0.01), bias 0, as the published code does.
    Raises `ModelError` where the head's last layer is not linear.
    """
    check_choice("start", start, ("clone", "centered", "random"))
    with torch.inference_mode(mode=False):
        head = deepcopy(model.softmax_head)
    if start == "clone":
        return head
    layers = head.last_layers()
    if not layers:
        raise ModelError(f"start={start!r} needs a linear last layer; this head is {head.describe_steps()}")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad(), evaluating(head):
        for layer in layers:
            if start == "centered":
                layer.weight -= layer.weight.mean(0, keepdim=True)
                if layer.bias is not None:
                    layer.bias -= layer.bias.mean()
                continue
            layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) * 0.01)
            if layer.bias is not None:
                layer.bias.zero_()
    return head
