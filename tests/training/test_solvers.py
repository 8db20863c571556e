"""The convex solve reaches its optimum; the fitted head is multinomial regression."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor, nn

from dualcam.heads import Head
from dualcam.losses import class_balanced_bce, positive_weights
from dualcam.training.lbfgs import Lbfgs
from dualcam.training.memory import InMemory
from dualcam.training.objective import Task, widest
from dualcam.training.probe import fit_linear_head
from dualcam.training.settings import Anchor, TrainingSettings
from dualcam.training.sgd import Sgd

PHOTOS, CHANNELS, CLASSES, DECAY = 60, 4, 3, 1e-2


@pytest.fixture
def task() -> Task:
    labels = torch.arange(PHOTOS) % CLASSES
    features = torch.randn(PHOTOS, CHANNELS) + torch.nn.functional.one_hot(labels, CHANNELS)
    head = Head.pooled_linear(nn.Linear(CHANNELS, CLASSES))
    return Task(InMemory(features), labels, head, "hard", positive_weights(labels, CLASSES, "uniform"), None)


@pytest.mark.parametrize("anchor", ["zero", "start"])
def test_lbfgs_reaches_the_optimum_that_scipy_finds(task: Task, anchor: Anchor) -> None:
    start = task.softmax_head.rows().weight.detach().double(), task.softmax_head.rows().bias.detach().double()
    head = deepcopy(task.softmax_head)
    settings = TrainingSettings(solver="lbfgs", weight_decay=DECAY, anchor=anchor)
    solver = Lbfgs(head, task, settings, torch.device("cpu"))
    reached = 0.0
    for number in range(40):
        reached = solver.epoch(number, None, lambda count: None)
        if solver.converged:
            break
    assert solver.converged

    features = task.features.values.double()  # type: ignore[attr-defined]
    assert isinstance(task.labels, Tensor)
    targets = nn.functional.one_hot(task.labels, CLASSES).double()
    weight, bias = start[0] if anchor == "start" else torch.zeros_like(start[0]), start[1]

    def objective(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        theta = torch.tensor(flat, requires_grad=True)
        w, b = theta[: weight.numel()].view_as(weight), theta[weight.numel() :]
        loss = class_balanced_bce(features @ w.T + b, targets, task.positive_weight.double())
        loss = loss + DECAY / 2 * (w - weight).square().sum()  # biases are free
        (gradient,) = torch.autograd.grad(loss, theta)
        return float(loss.detach()), gradient.numpy()

    best = minimize(
        objective, np.zeros(weight.numel() + bias.numel()), jac=True, method="BFGS", options={"gtol": 1e-10}
    )
    assert reached == pytest.approx(best.fun, abs=1e-9)
    found = torch.cat([head.rows().weight.flatten(), head.rows().bias]).detach().double()
    assert torch.allclose(found, torch.tensor(best.x), atol=1e-4)


def test_a_planted_shift_is_undone_at_the_optimum(task: Task) -> None:
    """BCE pins the shift that softmax leaves free: from any start the optimum is the same."""
    settings = TrainingSettings(solver="lbfgs", weight_decay=1e-4)
    found = []
    for size in (0.0, 3.0):
        head = deepcopy(task.softmax_head)
        with torch.no_grad():
            head.rows().weight.add_(size)
        solver = Lbfgs(head, task, settings, torch.device("cpu"))
        for number in range(40):
            solver.epoch(number, None, lambda count: None)
            if solver.converged:
                break
        found.append(head.rows().weight.detach().clone())
    assert torch.allclose(found[0], found[1], atol=1e-3)


def test_soft_labels_are_the_softmax_branch_s_probabilities(task: Task) -> None:
    soft = Task(**{**task.__dict__, "label_kind": "soft", "temperature": 2.0})
    rows, features = next(task.features.batches(np.arange(5), 5, 0))
    expected = (task.softmax_head.classify(features) / 2).softmax(1)
    assert torch.allclose(soft.targets(rows, features), expected)
    assert soft.targets(rows, features.double()).dtype == torch.float64


def test_fitted_head_is_regularized_multinomial_regression(task: Task) -> None:
    from sklearn.linear_model import LogisticRegression

    values = task.features.values.double()  # type: ignore[attr-defined]
    linear = fit_linear_head(task.features, task.labels, CLASSES, weight_decay=DECAY)
    centred = values - values.mean(0)
    scale = centred.square().sum(1).mean().sqrt()
    assert isinstance(task.labels, Tensor)
    oracle = LogisticRegression(C=1 / (DECAY * PHOTOS), tol=1e-10, max_iter=10000)
    oracle.fit((centred / scale).numpy(), task.labels.numpy())
    ours = linear(values.float()).softmax(1).detach().numpy()
    assert np.allclose(ours, oracle.predict_proba((centred / scale).numpy()), atol=1e-4)


def test_a_device_without_double_precision_is_asked_for_none(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Apple's accelerator a float64 tensor is an error: sums are float32 there, and L-BFGS runs on the CPU."""
    apple = torch.device("mps")
    assert (widest(apple), widest(torch.device("cpu"))) == (torch.float32, torch.float64)
    head = deepcopy(task.softmax_head)
    solver = Lbfgs(head, task, TrainingSettings(solver="lbfgs"), apple)
    solver.epoch(0, None, lambda count: None)
    assert next(solver.exact.parameters()).device.type == "cpu"
    asked = []

    def narrow(device: torch.device) -> torch.dtype:
        asked.append(device)
        return torch.float32

    monkeypatch.setattr("dualcam.training.sgd.widest", narrow)
    sgd = Sgd(head, task, TrainingSettings(), torch.device("cpu"), 0.01)
    assert np.isfinite(sgd.epoch(0, None, lambda count: None))
    assert asked == [torch.device("cpu")]
