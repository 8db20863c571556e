"""What `benchmarks/explain.py` measures: one call each, of dualcam, of its peers, and of the bounds between them."""

import gc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import torch
import torchvision
from torch import Tensor, nn

import dualcam
from dualcam import DualBranch, methods
from dualcam.guards import evaluating

SIDE = 224
BASELINES = ("plain", "inference")
BOUNDS = ("tail only 1", "tail only 5", "second head")
OURS = ("dualcam 1", "dualcam 5", "dualcam all", "optimized 1", "optimized 5")
PEERS = ("torchcam 1", "torchcam 5", "captum 1", "captum 5", "grad-cam 1", "grad-cam 5")
SCORE_CAM_TOOLS = ("dualcam", "dualcam optimized", "grad-cam", "torchcam")
LINEAR = ("resnet50", "mobilenet_v2")
Opened: TypeAlias = AbstractContextManager[Callable[[], Any]]
"""A call to be measured; what a tool hooks into the model and keeps of its calls is gone after the context."""


@dataclass(frozen=True)
class Subject:
    """A torchvision model with random weights, and the images that it looks at."""

    name: str
    batch: int

    @cached_property
    def images(self) -> Tensor:
        """Seeded noise [B, 3, H, W]."""
        return torch.randn(self.batch, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))

    @cached_property
    def model(self) -> nn.Module:
        """The user's model, which has run once: `dualcam.wrap` runs one, so everybody starts as warm."""
        torch.manual_seed(0)
        model: nn.Module = torchvision.models.get_model(self.name, weights=None).eval()
        for parameter in model.parameters():  # vit_b_16's last layer starts at zero, and all gradients with it
            if parameter.dim() == 2 and not parameter.any():
                nn.init.normal_(parameter, std=0.02)
        images = self.images[:2]
        with torch.inference_mode():
            model(images)
        return model

    @cached_property
    def wrapped(self) -> DualBranch:
        """The model as dualcam takes it."""
        return dualcam.wrap(self.model)

    @cached_property
    def optimized(self) -> DualBranch:
        """The faster copy."""
        return dualcam.optimize(self.wrapped)

    @cached_property
    def channels_last(self) -> tuple[nn.Module, Tensor]:
        """The model and the images in that layout."""
        model: nn.Module = torchvision.models.get_model(self.name, weights=None).eval()
        model.to(memory_format=torch.channels_last)
        return model, self.images.contiguous(memory_format=torch.channels_last)

    @cached_property
    def read(self) -> Tensor:
        """What the second head reads of these images."""
        with evaluating(self.wrapped):
            return self.wrapped.sigmoid_head.input_of(self.wrapped.tap(self.images)).detach()

    @property
    def layer(self) -> nn.Module:
        """The tapped layer, which peers are given too."""
        return self.model.get_submodule(self.wrapped.anatomy.layer)

    @property
    def is_spatial(self) -> bool:
        """Whether the layer's output has rows and columns; tokens have not."""
        return self.name != "vit_b_16"

    def release(self) -> None:
        """Drop what calls have left on the model, and cycles: gradients of weights, and graphs that they hold."""
        self.model.zero_grad(set_to_none=True)
        gc.collect()


def gradient_methods() -> tuple[str, ...]:
    """Return a variant for each method that reads one forward and gradients of it: all but those that ask again."""
    names = [name for name, method in methods.available().items() if not method.needs and name != "grad-cam"]
    return tuple(f"dualcam:{name} 1" for name in names)


def variants_of(name: str, batch: int) -> tuple[str, ...]:
    """Return what is measured by default; peers explain five classes at batch 1 only, where that takes seconds."""
    skipped = set() if name in LINEAR else {"dualcam all", "dualcam:cam 1"}
    if batch > 1:
        skipped |= {"torchcam 5", "captum 5", "grad-cam 5"}
    every = (*BASELINES, "channels last", *BOUNDS, *OURS, *gradient_methods(), *PEERS)
    return tuple(variant for variant in every if variant not in skipped)


def barred_of(name: str) -> tuple[str, ...]:
    """Return the variants that bars hang on."""
    if name in LINEAR:
        return ("plain", "dualcam 1", "dualcam 5", "dualcam all", "optimized 1")
    return ("plain", *BOUNDS, "dualcam 1", "dualcam 5")


def opened(variant: str, subject: Subject) -> Opened:
    """Return the call that ``variant`` names: a tool, for dualcam a method, and the classes; models are built here."""
    tool, _, count = variant.partition(" ")
    tool, _, method = tool.partition(":")
    classes = list(range(int(count))) if count.isdigit() else []
    if variant in (*BASELINES, "channels last"):
        return nullcontext(_forward(variant, subject))
    if variant == "second head":
        return nullcontext(_second_head(subject))
    if tool in ("dualcam", "optimized"):
        model = subject.wrapped if tool == "dualcam" else subject.optimized
        asked: Any = classes or count
        return nullcontext(lambda: model.explain(subject.images, asked, method=method or "grad-cam", sign="signed"))
    makers = {"tail": _tail_only, "torchcam": _torchcam, "captum": _captum, "grad-cam": _grad_cam}
    classes = classes or list(range(int(count.rpartition(" ")[2])))
    return makers[tool](subject, classes)


def _forward(variant: str, subject: Subject) -> Callable[[], Any]:
    model, images = subject.channels_last if variant == "channels last" else (subject.model, subject.images)

    def forward() -> Any:
        with torch.inference_mode(variant == "inference"):
            return model(images)

    return forward


def _tail_only(subject: Subject, classes: list[int]) -> Opened:
    """Return the least that gradients cost: a forward that records from the tapped layer on, and its backward."""
    leaves: list[Tensor] = []

    def open_up(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        torch.set_grad_enabled(True)
        leaves.append(output.detach().requires_grad_())
        return leaves[-1]

    def tail_only() -> list[Tensor]:
        leaves.clear()
        handle = subject.layer.register_forward_hook(open_up)
        with torch.no_grad():
            logits = subject.model(subject.images)
        handle.remove()
        return [torch.autograd.grad(logits[:, k].sum(), leaves[-1], retain_graph=k != classes[-1])[0] for k in classes]

    return nullcontext(tail_only)


def _second_head(subject: Subject) -> Callable[[], Any]:
    """Return what a second branch costs by itself: its head, once, on what a forward has left."""
    head, read = subject.wrapped.sigmoid_head, subject.read

    def second_head() -> Any:
        with torch.no_grad():
            return head(read)

    return second_head


@contextmanager
def _torchcam(subject: Subject, classes: list[int]) -> Iterator[Callable[[], Any]]:
    from torchcam.methods import GradCAM

    with GradCAM(subject.model, target_layer=subject.wrapped.anatomy.layer) as extractor:

        def torchcam() -> None:
            scores = subject.model(subject.images)
            for k in classes:
                extractor(k, scores, retain_graph=k != classes[-1])

        yield torchcam


def _captum(subject: Subject, classes: list[int]) -> Opened:
    from captum.attr import LayerGradCam

    attribution = LayerGradCam(subject.model, subject.layer)

    def captum() -> None:
        for k in classes:
            attribution.attribute(subject.images, target=k)

    return nullcontext(captum)


@contextmanager
def _grad_cam(subject: Subject, classes: list[int]) -> Iterator[Callable[[], Any]]:
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    def to_grid(tokens: Tensor) -> Tensor:
        side = int((tokens.shape[1] - 1) ** 0.5)
        return tokens[:, 1:].transpose(1, 2).reshape(len(tokens), -1, side, side)

    reshape = None if subject.is_spatial else to_grid
    with GradCAM(model=subject.model, target_layers=[subject.layer], reshape_transform=reshape) as cam:

        def grad_cam() -> None:
            for k in classes:
                cam(input_tensor=subject.images, targets=[ClassifierOutputTarget(k)] * len(subject.images))

        yield grad_cam


@contextmanager
def opened_score_cam(tool: str, subject: Subject) -> Iterator[Callable[[], Any]]:
    """Open Score-CAM of the first image by one of `SCORE_CAM_TOOLS`; a masked image a channel."""
    image = subject.images[:1]
    if tool == "grad-cam":
        from pytorch_grad_cam import ScoreCAM
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        with ScoreCAM(model=subject.model, target_layers=[subject.layer]) as cam:
            yield lambda: cam(input_tensor=image, targets=[ClassifierOutputTarget(0)])
    elif tool == "torchcam":
        with _torchcam_score_cam(subject, image) as call:
            yield call
    else:
        model = subject.optimized if tool == "dualcam optimized" else subject.wrapped
        yield lambda: model.explain(image, 0, method="score-cam")


@contextmanager
def _torchcam_score_cam(subject: Subject, image: Tensor) -> Iterator[Callable[[], Any]]:
    from torchcam.methods import ScoreCAM

    with ScoreCAM(subject.model, target_layer=subject.wrapped.anatomy.layer) as extractor:

        def torchcam() -> None:
            with torch.no_grad():
                scores = subject.model(image)
            extractor(0, scores)

        yield torchcam
