"""The default learning rate: below what the loss's curvature allows, whatever the features' scale."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from dualcam.heads import Head
from dualcam.losses import class_balanced_bce, positive_weights
from dualcam.training.measure import stable_lr
from dualcam.training.memory import InMemory
from dualcam.training.objective import Task
from dualcam.training.settings import TrainingSettings
from dualcam.training.sgd import Sgd

CHANNELS = 4


def balanced(classes: int, scale: float, seed: int) -> tuple[Head, Task, Tensor]:
    """Return a head drawn from N(0, 1), a task of six photos a class in double precision, and its features."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(6 * classes) % classes
    values = scale * torch.randn(len(labels), CHANNELS, generator=generator, dtype=torch.float64)
    linear = nn.Linear(CHANNELS, classes).double()
    with torch.no_grad():
        for parameter in linear.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    head = Head.pooled_linear(linear)
    weight = positive_weights(labels, classes, "uniform").double()
    return head, Task(InMemory(values), labels, head, "hard", weight, None), values


@given(st.integers(2, 6), st.sampled_from([1e-8, 1e-2, 1.0, 30.0]), st.integers(0, 1000))
def test_the_step_is_at_most_half_of_one_over_the_curvature(classes: int, scale: float, seed: int) -> None:
    head, task, values = balanced(classes, scale, seed)
    lr = stable_lr(head, task, classes)
    targets = functional.one_hot(torch.arange(len(values)) % classes, classes).double()
    ones = torch.cat((values, values.new_ones(len(values), 1)), 1)

    def loss(rows: Tensor) -> Tensor:
        return class_balanced_bce(ones @ rows.view(classes, -1).T, targets, task.positive_weight)

    rows = torch.cat((head.rows().weight.detach(), head.rows().bias.detach()[:, None]), 1)
    for where in (rows, torch.zeros_like(rows)):
        hessian = torch.autograd.functional.hessian(loss, where.flatten())  # type: ignore[no-untyped-call]
        assert lr * float(torch.linalg.eigvalsh(hessian).max()) <= 0.5 * 1.005  # three digits are kept of the rate
    cross = stable_lr(head, task, 1)

    def cross_entropy(rows: Tensor) -> Tensor:
        return functional.cross_entropy(ones @ rows.view(classes, -1).T, targets)

    hessian = torch.autograd.functional.hessian(cross_entropy, rows.flatten())  # type: ignore[no-untyped-call]
    assert cross * float(torch.linalg.eigvalsh(hessian).max()) <= 0.5 * 1.005


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e3])
def test_training_at_that_rate_goes_down_at_every_scale(scale: float) -> None:
    head, task, _ = balanced(5, scale, 0)
    solver = Sgd(head, task, TrainingSettings(batch_size=10), torch.device("cpu"), stable_lr(head, task, 5))
    losses = [solver.epoch(number, None, lambda count: None) for number in range(10)]
    assert losses[-1] < losses[0]
    assert max(losses) == losses[0]


def test_the_rate_is_the_formula_s_and_heads_that_are_not_affine_take_a_fixed_one() -> None:
    head, task, values = balanced(5, 1.0, 0)
    assert stable_lr(head, task, 5) == pytest.approx(5 / (float(values.square().sum(1).mean()) + 1), rel=5e-3)
    mlp = Head(["mean over cells", nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 5)], "mlp", 5)
    assert stable_lr(mlp, task, 5) == 1e-3
    sets = torch.stack((values, 3 * values), 1)  # two tokens a photo
    tokens = Head([nn.Linear(4, 5), "mean over tokens"], "tail", 5)
    of_tokens = Task(InMemory(sets), task.labels, tokens, "hard", task.positive_weight, None)
    squares = float(values.square().sum(1).mean()) * (1 + 9) / 2
    assert stable_lr(tokens, of_tokens, 5) == pytest.approx(5 / (squares + 1), rel=5e-3)
