"""What training undoes: BCE at its optimum everything that the data span, cross-entropy nothing."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from torch import Tensor, nn

from dualcam.diagnose.last_layer import LastLayer
from dualcam.diagnose.recovery import choose_classes, keep_offset, measure_recovery
from dualcam.diagnose.retrain import BalancedRows
from dualcam.diagnose.span import find_coordinates
from dualcam.heads import Head
from dualcam.losses import class_balanced_bce, positive_weights
from dualcam.training.memory import InMemory
from dualcam.training.objective import decay
from dualcam.training.settings import TrainingSettings
from dualcam.training.sgd import Sgd

CLASSES = 5


def problem(rows: int, channels: int, seed: int = 0) -> tuple[LastLayer, Tensor, Tensor]:
    """Return class rows, inputs like pooled activations, and labels that the inputs do not give away."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(rows, channels, generator=generator, dtype=torch.float64).abs()
    labels = torch.randint(0, CLASSES, (rows,), generator=generator)
    weight = torch.randn(CLASSES, channels, generator=generator, dtype=torch.float64)
    bias = torch.randn(CLASSES, generator=generator, dtype=torch.float64)
    return LastLayer(Head.pooled_linear(nn.Linear(channels, CLASSES).double()), weight, bias), inputs, labels


def separable(inputs: Tensor, positive: Tensor) -> bool:
    """Whether some w, b have w z + b >= 1 where ``positive`` and <= -1 elsewhere: a linear program."""
    sides = (2.0 * positive.double() - 1)[:, None] * torch.cat((inputs, torch.ones(len(inputs), 1)), 1)
    found = linprog(np.zeros(sides.shape[1]), -sides.numpy(), -np.ones(len(sides)), bounds=(None, None))
    assert found.status in (0, 2), found.message  # solved, or infeasible
    return bool(found.status == 0)


def test_the_check_of_separability_can_tell() -> None:
    inputs = torch.randn(30, 2, dtype=torch.float64)
    assert separable(inputs, inputs[:, 0] > 0.1)
    assert not separable(inputs, (inputs[:, 0] > 0) ^ (inputs[:, 1] > 0))


def test_the_optimum_without_weight_decay_forgets_every_start() -> None:
    layer, inputs, labels = problem(240, 12)
    assert len(inputs) > 5 * (inputs.shape[1] + 1)
    assert not any(separable(inputs, labels == chosen) for chosen in range(CLASSES))
    found = measure_recovery(layer, layer, inputs, inputs, labels, settings=TrainingSettings(weight_decay=0.0), draws=1)
    assert found is not None
    assert found.converged
    assert found.rank == found.dimensions == 12
    for left in found.left:
        assert left.outside is None
        if left.solver == "lbfgs":
            assert left.inside < 1e-3
            assert left.scores < 1e-3
        else:
            assert 1e-2 < left.scores < 1
    assert found.cross_entropy_kept == pytest.approx(1, abs=1e-12)
    assert found.cross_entropy_drift < 1e-12


def test_outside_of_the_span_only_weight_decay_acts() -> None:
    layer, inputs, labels = problem(8, 30)
    found = measure_recovery(layer, layer, inputs, inputs, labels, draws=1)
    assert found is not None
    assert (found.rank, found.dimensions) == (8, 30)
    outside = {(left.solver, left.start): left.outside for left in found.left}
    # Nesterov's recursion with the decay alone, on one number.
    rate = float(f"{5 / (float(inputs.square().sum(1).mean()) + 1):.3g}")
    value, momentum = 1.0, 0.0
    for epoch in range(10):
        gradient = 5e-4 * value
        momentum = 0.9 * momentum + gradient if epoch else gradient
        value -= rate * 0.1 ** (epoch // 3) * (gradient + 0.9 * momentum)
    assert outside["sgd", "shifted 1"] == pytest.approx(value, rel=1e-9)
    assert outside["lbfgs", "shifted 1"] == pytest.approx(0, abs=1e-6)
    free = TrainingSettings(weight_decay=0.0)
    undecayed = measure_recovery(layer, layer, inputs, inputs, labels, settings=free, draws=1, solvers=["sgd"])
    assert undecayed is not None
    assert {left.outside for left in undecayed.left} == {1.0}


def test_the_coordinates_of_the_span_change_no_step() -> None:
    layer, inputs, labels = problem(20, 40)
    coordinates = find_coordinates(inputs, 0)
    torch.testing.assert_close(coordinates.basis.T @ coordinates.basis, torch.eye(20, dtype=torch.float64))
    assert float((inputs @ coordinates.outside).abs().max()) < 1e-12
    targets = nn.functional.one_hot(labels, CLASSES).double()
    weight = positive_weights(labels, CLASSES, "frequency").double()
    reached = []
    for values, rows in ((inputs, layer.weight), (coordinates.of(inputs), coordinates.of(layer.weight))):
        head = Head.pooled_linear(nn.Linear(values.shape[1], CLASSES, dtype=torch.float64))
        with torch.no_grad():
            head.rows().weight.copy_(rows)
            head.rows().bias.copy_(layer.bias)
        task = BalancedRows(InMemory(values), targets, weight, 1.0)
        solver = Sgd(head, task, TrainingSettings(batch_size=6), torch.device("cpu"), 0.05)
        for epoch in range(4):
            solver.epoch(epoch, None, lambda count: None)
        reached.append(head.rows())
    full, reduced = reached
    assert not torch.allclose(full.weight, layer.weight, atol=1e-2)
    torch.testing.assert_close(coordinates.of(full.weight), reduced.weight)
    torch.testing.assert_close(full.bias, reduced.bias)


def test_rows_are_trained_as_among_all_classes() -> None:
    _, inputs, labels = problem(20, 6)
    weight = positive_weights(labels, CLASSES, "frequency").double()
    targets = nn.functional.one_hot(labels, CLASSES).double()
    head = Head.pooled_linear(nn.Linear(6, CLASSES, dtype=torch.float64))
    whole = class_balanced_bce(head.classify(inputs), targets, weight) + 0.1 * decay(head, None)
    some = Head.pooled_linear(nn.Linear(6, 2, dtype=torch.float64))
    with torch.no_grad():
        some.rows().weight.copy_(head.rows().weight[1:3])
        some.rows().bias.copy_(head.rows().bias[1:3])
    task = BalancedRows(InMemory(inputs), targets[:, 1:3], weight[1:3], 2 / CLASSES)
    part = task.loss(some, task.rows(), inputs) + 0.1 * decay(some, None)
    (expected,) = torch.autograd.grad(whole, head.rows().weight)
    (found,) = torch.autograd.grad(part, some.rows().weight)
    torch.testing.assert_close(found, expected[1:3])


@settings(max_examples=5)
@given(st.integers(0, 1000), st.floats(0.1, 5))
def test_cross_entropy_keeps_any_offset(seed: int, size: float) -> None:
    layer, inputs, labels = problem(15, 7, seed)
    kept, drift = keep_offset(layer, inputs, labels, size=size, seed=seed, settings=TrainingSettings(batch_size=4))
    assert kept == pytest.approx(1, abs=1e-12)
    assert drift < 1e-12


def test_only_classes_with_photos_for_and_against_are_trained() -> None:
    assert choose_classes(torch.tensor([4, 4, 1, 7]), 0).tolist() == [1, 4, 7]
    assert choose_classes(torch.tensor([4, 4]), 0).tolist() == []
    assert len(choose_classes(torch.arange(500), 0)) == 64
    layer, inputs, _ = problem(6, 4)
    assert measure_recovery(layer, layer, inputs, inputs, torch.zeros(6, dtype=torch.long)) is None


def test_the_recipe_is_what_is_run() -> None:
    layer, inputs, labels = problem(20, 6)
    recipe = replace(TrainingSettings(), epochs=3, batch_size=8)
    found = measure_recovery(layer, layer, inputs, inputs, labels, settings=recipe, draws=1, solvers=["sgd"])
    assert found is not None
    assert (found.epochs, found.steps, found.rows) == (3, 9, 20)
