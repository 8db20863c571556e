"""What "works" means for a wrapped model: logits, map, gradient, and where the map's maximum lies."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from dualcam import DualBranch
from dualcam.capture import first_tensor, with_tensor
from dualcam.data.prepared import prepare_tensor
from dualcam.evidence import gather_evidence
from dualcam.explainer import run_model

QUADRANTS = [(0, 0), (0, 1), (1, 0), (1, 1)]


def noise(model: DualBranch, batch: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, 3, *model.preprocessing.size, generator=generator)


def draw_last_layers(model: DualBranch) -> None:
    """Give the sigmoid branch weights of its own: many models are born with a last layer of zeros."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for layer in model.sigmoid_head.last_layers():
            layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) / layer.weight[0].numel() ** 0.5)


def check(model: DualBranch) -> None:
    """Raise `AssertionError` where a wrapped model does not do what it promises."""
    check_logits(model)
    draw_last_layers(model)
    check_map_and_gradient(model)
    check_planted(model)


def check_logits(model: DualBranch) -> None:
    """One image alone and among others: bit for bit the model's own; the clone says the same."""
    for batch in (1, 2):
        pixels = noise(model, batch)
        with torch.no_grad():
            own = model.adapter.logits(model.classifier, pixels)
        forward = run_model(model, prepare_tensor(model.preprocessing, pixels))
        assert torch.equal(forward.logits, own)
        with torch.no_grad():
            sigmoid = model.sigmoid_head(model.sigmoid_head.input_of(forward.tapped))
        torch.testing.assert_close(sigmoid, own, rtol=1e-4, atol=1e-5)


def check_map_and_gradient(model: DualBranch) -> None:
    pixels = noise(model, 1)
    (explanation,) = model.explain(pixels, 3 % model.classes, sign="signed", normalize=None)
    assert explanation.raw.shape == (1, *model.anatomy.grid)
    assert torch.isfinite(explanation.raw).all()
    assert explanation.raw.abs().max() > 0
    forward = run_model(model, prepare_tensor(model.preprocessing, pixels))
    evidence = gather_evidence(model.sigmoid_head, forward.tapped, torch.tensor([[3 % model.classes]]), "logit")
    has_gradient = (evidence.gradients != 0).any(2).float().mean()
    least = 0.8 if model.softmax_head.kind == "tail" else 0.0  # a ReLU in a chain may close on cells (SqueezeNet's)
    assert has_gradient > least, f"{float(has_gradient):.2f} of the cells have a gradient"


def check_planted(model: DualBranch) -> None:
    """Activations in one quadrant only: the maximum lies there, for each quadrant."""
    height, width = model.anatomy.grid
    with planted(model):
        explanations = model.explain(
            noise(model, len(QUADRANTS)), 3 % model.classes, method="layer-cam", normalize=None, clamp="contributions"
        )
    for (lower, right), explanation in zip(QUADRANTS, explanations, strict=True):
        top, left = divmod(int(explanation.raw[0].argmax()), width)
        assert explanation.raw.max() > 0
        assert inside(top, height, lower), (lower, right, top, left)
        assert inside(left, width, right), (lower, right, top, left)


def inside(place: int, cells: int, second: int) -> bool:
    return place >= cells - cells // 2 if second else place < cells // 2


@contextmanager
def planted(model: DualBranch) -> Iterator[None]:
    """Let image b's activations be noise in quadrant b and zero elsewhere, in the layer's own layout."""
    anatomy = model.anatomy
    height, width = anatomy.grid
    generator = torch.Generator().manual_seed(4)

    def plant(_module: Any, _inputs: Any, output: Any) -> Any:
        value = first_tensor(output)
        assert value is not None
        made = value.clone()
        for image, (lower, right) in enumerate(QUADRANTS):
            for row in range(height):
                for column in range(width):
                    keep = inside(row, height, lower) and inside(column, width, right)
                    cell = torch.randn(anatomy.channels, generator=generator) if keep else 0.0
                    if anatomy.nonnegative and keep:
                        cell = torch.as_tensor(cell).abs()
                    if anatomy.layout == "NCHW":
                        made[image, :, row, column] = cell
                    elif anatomy.layout == "NHWC":
                        made[image, row, column] = cell
                    else:
                        place = row * width + column
                        order = anatomy.cells.order
                        made[image, anatomy.cells.leading + (place if order is None else order[place])] = cell
        return with_tensor(output, value, made)

    handle = model.classifier.get_submodule(anatomy.layer).register_forward_hook(plant)
    try:
        yield
    finally:
        handle.remove()
