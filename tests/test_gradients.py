"""Gradients of several classes: those of one class at a time, batched or not, in chunks or not."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dualcam import gradients
from dualcam.gradients import class_gradients

DOUBLE = torch.float64


class Cube(torch.autograd.Function):
    """x^3 by hand: an operation that vmap does not know."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        x: Tensor = ctx.saved_tensors[0]
        assert not bool(grads[0].isnan().any())  # a value is asked for, of which a batch of gradients has several
        return 3 * x**2 * grads[0]


def cube(x: Tensor) -> Tensor:
    made: Tensor = Cube.apply(x)
    return made


def naive(scores: Tensor, leaf: Tensor) -> Tensor:
    """Return the gradients [B, K, ...] image by image and class by class."""
    rows = [
        torch.stack([torch.autograd.grad(score, leaf, retain_graph=True)[0][image] for score in row])
        for image, row in enumerate(scores)
    ]
    return torch.stack(rows)


@pytest.mark.parametrize("unknown", [False, True])
@pytest.mark.parametrize("classes", [1, 2, 7])
@pytest.mark.parametrize("chunk", [1, 60, 2**24])
def test_they_are_those_of_one_class_at_a_time(
    classes: int, unknown: bool, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gradients, "CHUNK", chunk)
    head = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, classes)).double()
    leaf = torch.randn(3, 2, 2, 3, dtype=DOUBLE).requires_grad_()
    scores = head(cube(leaf) if unknown else leaf**3)
    torch.testing.assert_close(class_gradients(scores, leaf, keep_graph=True), naive(scores, leaf))
    assert class_gradients(scores, leaf).shape == (3, classes, 2, 2, 3)


def test_known_operations_are_walked_back_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bool] = []
    original = torch.autograd.grad

    def counted(*given: Any, **options: Any) -> Any:
        calls.append(bool(options.get("is_grads_batched")))
        return original(*given, **options)

    monkeypatch.setattr(torch.autograd, "grad", counted)
    leaf = torch.randn(2, 6, dtype=DOUBLE).requires_grad_()
    class_gradients(nn.Linear(6, 5).double()(leaf.tanh()), leaf)
    assert calls == [True]
    calls.clear()
    class_gradients(nn.Linear(6, 5).double()(cube(leaf)), leaf)
    assert calls == [True] + [False] * 5


@pytest.mark.parametrize("unknown", [False, True])
def test_they_can_be_differentiated_again(unknown: bool) -> None:
    weight = torch.randn(4, 6, dtype=DOUBLE)

    def squares(x: Tensor) -> Tensor:
        scores = (cube(x) if unknown else x**3) @ weight.T
        return class_gradients(scores, x, create_graph=True).square().sum((0, 2))

    leaf = torch.randn(2, 6, dtype=DOUBLE).requires_grad_()
    torch.testing.assert_close(
        squares(leaf).detach(), (3 * leaf.detach() ** 2).unsqueeze(1).mul(weight).square().sum((0, 2))
    )
    assert torch.autograd.gradcheck(squares, leaf)


def test_an_error_in_the_graph_is_not_swallowed() -> None:
    leaf = torch.randn(2, 3, dtype=DOUBLE).requires_grad_()
    with pytest.raises(RuntimeError, match="does not require grad"):
        class_gradients(torch.randn(2, 3), leaf)
