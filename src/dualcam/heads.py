"""The head: a chain from the activations F [B, D, h, w], or from the last layer's inputs, to the logits [B, C]."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from dualcam.types import HeadKind, Tapped

LINEAR_KINDS: frozenset[HeadKind] = frozenset({"pooled-linear", "pooled-conv"})

GLUE: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "relu6": functional.relu6,
    "silu": functional.silu,
    "gelu": functional.gelu,
    "hardswish": functional.hardswish,
    "global average pool": lambda x: functional.adaptive_avg_pool2d(x, 1),
    "mean over cells": lambda x: x.mean((2, 3)),
    "mean over cells (NHWC)": lambda x: x.mean((1, 2)),
    "to NHWC": lambda x: x.permute(0, 2, 3, 1),
    "to NCHW": lambda x: x.permute(0, 3, 1, 2),
    "flatten": lambda x: x.flatten(1),
    "mean over tokens": lambda x: x.mean(1),
    "max over tokens": lambda x: x.amax(1),
}
ACTIVATIONS = frozenset({"relu", "relu6", "silu", "gelu", "hardswish"})
NOT_AFFINE = ACTIVATIONS | {"max over tokens"}


class Rows(NamedTuple):
    """A linear head's class rows: weight [C, D] and bias [C]."""

    weight: Tensor
    bias: Tensor


class SideBySide(nn.Module):
    """Several last layers, each with its own input, whose outputs are averaged or added: a distilled model's two.

    The inputs lie side by side on the last axis.
    """

    def __init__(self, layers: Sequence[nn.Module], widths: Sequence[int], how: Literal["mean", "sum"]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.widths = list(widths)
        self.how = how

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits [B, C] of the joined inputs [B, sum of widths]."""
        parts = torch.split(inputs, self.widths, -1)
        outputs = torch.stack([layer(part) for layer, part in zip(self.layers, parts, strict=True)])
        return outputs.mean(0) if self.how == "mean" else outputs.sum(0)

    def extra_repr(self) -> str:
        """Say how the outputs come together."""
        return self.how


class TokenLabels(nn.Module):
    """A class layer on the first token, and half of the best of a token layer's scores: VOLO's two layers.

    Jiang et al., All Tokens Matter: Token Labeling for Training Better Vision Transformers, NeurIPS 2021.
    """

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits [B, C] of the class token and the others, [B, 1 + N, D]."""
        whole, tokens = self.layers
        logits: Tensor = whole(inputs[:, 0]) + 0.5 * tokens(inputs[:, 1:]).amax(1)
        return logits


class Head(nn.Module):
    """A chain of modules and named parameter-free operations (`GLUE`) to logits.

    ``kind`` says which laws hold: for "pooled-linear" and "pooled-conv" the logits are linear in the mean of the
    activations, so class rows exist, maps have a closed form and are complete. A head of kind "tail" is the last
    layer alone: it reads that layer's inputs instead of the activations, and what lies between is the model's own.
    """

    def __init__(self, steps: Sequence[nn.Module | str], kind: HeadKind, classes: int) -> None:
        super().__init__()
        self.kind: HeadKind = kind
        self.classes = classes
        self.parts = nn.ModuleList([step for step in steps if isinstance(step, nn.Module)])
        count = iter(range(len(self.parts)))
        self.plan: tuple[str | int, ...] = tuple(step if isinstance(step, str) else next(count) for step in steps)

    @classmethod
    def pooled_linear(cls, linear: nn.Linear) -> "Head":
        """Build global average pooling followed by ``linear``."""
        return cls(["mean over cells", linear], "pooled-linear", linear.out_features)

    @property
    def reads_features(self) -> bool:
        """Whether the head reads the last layer's inputs, not the activations."""
        return self.kind == "tail"

    def input_of(self, tapped: Tapped) -> Tensor:
        """Return what this head reads of a forward: its activations, or its features, with their graph."""
        if not self.reads_features:
            return tapped.activations
        return tapped.features if tapped.places is None else tapped.features[list(tapped.places)]

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits [B, C] of `input_of`: activations [B, D, h, w], or the last layer's inputs."""
        return self._run(inputs, self.plan)

    def logits_of(self, inputs: Tensor, index: Tensor) -> Tensor:
        """Return the logits [B, K] of the classes ``index`` [B, K] alone; linear heads read just those rows."""
        if not self.is_linear:
            logits: Tensor = self(inputs)
            return logits.gather(1, index)
        rows = self.rows()
        pooled = inputs.mean((2, 3)).to(rows.weight.dtype)
        if index.numel() >= self.classes:  # one product with all rows weighs less than a copy of each image's
            return functional.linear(pooled, rows.weight, rows.bias).gather(1, index)
        return (rows.weight[index] @ pooled.unsqueeze(2)).squeeze(2) + rows.bias[index]

    @property
    def is_linear(self) -> bool:
        """Whether logits are linear in the mean activations."""
        return self.kind in LINEAR_KINDS

    def reduce(self, inputs: Tensor) -> Tensor:
        """Return what training needs of `input_of`: the result of the leading parameter-free steps.

        Linear heads need the mean over cells [B, D] only; others what their first parameters see.
        """
        if self.is_linear:
            return inputs.mean((2, 3))
        return self._run(inputs, self.plan[: self._first_trainable()])

    def classify(self, reduced: Tensor) -> Tensor:
        """Return logits [B, C] of what `reduce` returned."""
        if self.is_linear:
            rows = self.rows()
            return functional.linear(reduced, rows.weight, rows.bias)
        return self._run(reduced, self.plan[self._first_trainable() :])

    @property
    def is_affine(self) -> bool:
        """Whether logits are affine in what `reduce` returns, so that training poses a convex problem."""
        if self.is_linear:
            return True
        if any(step in NOT_AFFINE for step in self.plan[self._first_trainable() :]):
            return False
        layers = [part for part in self.parts.modules() if next(part.parameters(recurse=False), None) is not None]
        plain = all(isinstance(part, nn.Linear | SideBySide) for part in self.parts)
        return self.reads_features and plain and all(isinstance(layer, nn.Linear) for layer in layers)

    def rows(self) -> Rows:
        """Return the class rows of a linear head; an assertion guards against asking another kind."""
        assert self.is_linear, f"a {self.kind} head has no class rows"
        layer = next(part for part in self.parts if isinstance(part, nn.Linear | nn.Conv2d))
        weight = layer.weight.flatten(1)
        bias = layer.bias if layer.bias is not None else weight.new_zeros(len(weight))
        return Rows(weight, bias)

    def parameter_count(self) -> int:
        """Return the number of parameters, which is what a clone of the head costs."""
        return sum(parameter.numel() for parameter in self.parameters())

    def steps(self) -> list[nn.Module | str]:
        """Return the chain: modules, and names of operations."""
        return [step if isinstance(step, str) else self.parts[step] for step in self.plan]

    def describe_steps(self) -> str:
        """Return the chain in words."""
        return " > ".join(step if isinstance(step, str) else type(self.parts[step]).__name__ for step in self.plan)

    def last_layer(self) -> nn.Linear | nn.Conv2d | None:
        """Return the layer that makes the logits, or None where it is of another type."""
        for part in reversed(list(self.parts.modules())):
            if isinstance(part, nn.Linear | nn.Conv2d):
                return part
        return None

    def last_layers(self) -> list[nn.Linear | nn.Conv2d]:
        """Return the layers that make the logits: `last_layer`, or all whose outputs are averaged or added."""
        several = [part for part in self.parts if isinstance(part, SideBySide | TokenLabels)]
        if several:
            return [layer for layer in several[-1].layers if isinstance(layer, nn.Linear | nn.Conv2d)]
        last = self.last_layer()
        return [] if last is None else [last]

    def first_layer(self) -> nn.Module | None:
        """Return the first step that has parameters: what `reduce` returns is its input."""
        return next((part for part in self.parts if next(part.parameters(), None) is not None), None)

    def _first_trainable(self) -> int:
        for position, step in enumerate(self.plan):
            if isinstance(step, int) and next(self.parts[step].parameters(), None) is not None:
                return position
        return len(self.plan)

    def _run(self, value: Tensor, plan: Sequence[str | int]) -> Tensor:
        for step in plan:
            value = GLUE[step](value) if isinstance(step, str) else self.parts[step](value)
        return value


def probe_score(steps: Sequence[nn.Module | str], features: Tensor) -> Tensor:
    """Return the sum over images of one class's score by a copy of ``steps`` whose weights are noise.

    Its gradient tells what a class's score can depend on, also where the model's last layer is born as zeros.
    """
    head = Head([step if isinstance(step, str) else deepcopy(step) for step in steps], "tail", 1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    score: Tensor = head(features)[:, 0].sum()
    return score
