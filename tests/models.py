"""Tiny classifiers of every head kind, and one whose activations a test can plant."""

from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

import dualcam
from dualcam import DualBranch, Explanation, Preprocessing, methods
from dualcam.types import HeadKind

KINDS: tuple[HeadKind, ...] = get_args(HeadKind)
ON_ACTIVATIONS = tuple(kind for kind in KINDS if kind != "tail")
"""Kinds whose heads read the tapped layer itself."""
LINEAR: tuple[HeadKind, ...] = ("pooled-linear", "pooled-conv")
ON_CONVOLUTIONS = {name: method for name, method in methods.available().items() if "attention" not in method.needs}
"""The methods that read no attention, of which the tiny classifiers have none."""
SIZE = (24, 32)
GRID = (6, 8)
CHANNELS = 8
CLASSES = 5
PREPROCESSING = Preprocessing(size=SIZE)


class Tiny(nn.Module):
    """Two strided convolutions with batch norm, dropout, and a head of the given kind; input 3 x 24 x 32."""

    def __init__(self, kind: HeadKind, activation: type[nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=2, padding=1),
            nn.BatchNorm2d(6),
            activation(),
            nn.Conv2d(6, CHANNELS, 3, stride=2, padding=1),
            nn.BatchNorm2d(CHANNELS),
            activation(),
        )
        pool: list[nn.Module] = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        heads: dict[HeadKind, list[nn.Module]] = {
            "pooled-linear": [*pool, nn.Dropout(0.5), nn.Linear(CHANNELS, CLASSES)],
            "pooled-conv": [nn.Dropout(0.5), nn.Conv2d(CHANNELS, CLASSES, 1), *pool],
            "norm-linear": [*pool, nn.LayerNorm(CHANNELS), nn.Linear(CHANNELS, CLASSES)],
            "mlp": [
                nn.AdaptiveAvgPool2d(2),
                nn.Flatten(),
                nn.Linear(4 * CHANNELS, 7),
                nn.Tanh(),
                nn.Dropout(0.5),
                nn.Linear(7, CLASSES),
            ],
        }
        heads["tail"] = heads["pooled-linear"][2:]  # no new one: it would move what is drawn after it
        self.query = nn.Parameter(torch.randn(CHANNELS)) if kind == "tail" else None
        self.head = nn.Sequential(*heads[kind])

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.attended(self.features(images)))
        return logits

    def attended(self, features: Tensor) -> Tensor:
        """Pool by attention over cells, by no module: nothing that a chain could be made of; other kinds do not."""
        if self.query is None:
            return features
        cells = features.flatten(2)
        attention = (cells * self.query.unsqueeze(1)).sum(1, keepdim=True).softmax(2)
        return (cells * attention).sum(2)


def tiny(
    kind: HeadKind, activation: type[nn.Module] = nn.ReLU, *, dtype: torch.dtype = torch.float64, seed: int = 0
) -> Tiny:
    """Return a seeded tiny classifier in eval mode with batch statistics that are not the initial ones."""
    torch.manual_seed(seed)
    model = Tiny(kind, activation)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 2)  # type: ignore[arg-type]
    return model.to(dtype).eval()


def wrapped(kind: HeadKind, activation: type[nn.Module] = nn.ReLU, **options: Any) -> DualBranch:
    """Return a wrapped tiny classifier whose sigmoid branch differs from the softmax branch."""
    model = dualcam.wrap(tiny(kind, activation, **options), preprocessing=PREPROCESSING)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.sigmoid_head.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator).to(parameter), alpha=0.3)
    return model


def head_input(model: DualBranch, activations: Tensor) -> Tensor:
    """Return what the heads of a wrapped tiny model read, with its graph: ``activations``, or what a tail makes."""
    assert isinstance(model.classifier, Tiny)
    return model.classifier.attended(activations)


def images(batch: int = 2, dtype: torch.dtype = torch.float64, seed: int = 3) -> Tensor:
    """Return seeded noise images [B, 3, 24, 32]."""
    return torch.randn(batch, 3, *SIZE, generator=torch.Generator().manual_seed(seed), dtype=dtype)


class Stage(nn.Module):
    """A layer whose output is what the test planted; a rectified 1x1 convolution until then."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 1)
        self.planted: Tensor | None = None

    def forward(self, images: Tensor) -> Tensor:
        return functional.relu(self.conv(images)) if self.planted is None else self.planted


class Planted(nn.Module):
    """Pooled linear classifier over planted activations."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.stage = Stage(weight.shape[1])
        self.fc = nn.Linear(weight.shape[1], weight.shape[0])
        self.fc.weight = nn.Parameter(weight.clone())
        self.fc.bias = nn.Parameter(bias.clone())

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.stage(images).mean((2, 3)))
        return logits


class OpaqueHead(nn.Module):
    """Global average pooling and a linear layer, in one module that does not show it."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, activations: Tensor) -> Tensor:
        logits: Tensor = self.linear(activations.mean((2, 3)))
        return logits


def plant(activations: Tensor, weight: Tensor, bias: Tensor, *, opaque: bool = False) -> DualBranch:
    """Wrap a pooled linear classifier and plant ``activations`` [B, D, h, w].

    With ``opaque`` the head is given by hand in a form that hides its linearity, so its gradients come from autograd.
    """
    classifier = Planted(weight, bias).double().eval()
    model = dualcam.wrap(
        classifier,
        preprocessing=Preprocessing(size=(max(2, activations.shape[2]), max(2, activations.shape[3]))),
        nonnegative=bool((activations >= 0).all()),
        layer="stage" if opaque else None,
        head=OpaqueHead(classifier.fc) if opaque else None,
    )
    assert model.softmax_head.kind == ("mlp" if opaque else "pooled-linear")
    classifier.stage.planted = activations
    return model


def explain_planted(
    activations: Tensor, weight: Tensor, bias: Tensor, *, opaque: bool = False, **options: Any
) -> list[Explanation]:
    """Explain all classes of a planted model."""
    model = plant(activations, weight, bias, opaque=opaque)
    shape = (activations.shape[0], 3, *activations.shape[2:])
    return model.explain(torch.zeros(shape, dtype=torch.float64), "all", **options)


def maps(explanations: list[Explanation], which: str = "raw") -> Tensor:
    """Return the raw (or signed) maps [B, K, h, w]."""
    return torch.stack([getattr(item, which) for item in explanations])
