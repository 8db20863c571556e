"""Sign collapse: the shift empties the map, softmax stays, and nothing smaller does it."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.optimize import minimize

import dualcam
from dualcam import methods
from dualcam.description import default_method
from dualcam.diagnose import collapse
from dualcam.diagnose.collapse import highest_after, measure_collapse, smallest_shift, smallest_shift_of_cells
from dualcam.diagnose.last_layer import exact, find_last_layer
from dualcam.diagnose.maps import draw_maps
from dualcam.types import HeadKind
from tests.diagnose.forwards import kept
from tests.models import KINDS, images, wrapped

seeds = st.integers(0, 10_000)
NO_SHIFT = torch.zeros(0, 0, dtype=torch.float64)


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(seeds, st.floats(0, 0.999), st.floats(0, 1))
def test_any_smaller_shift_leaves_a_photo_whose_map_is_positive(seed: int, size: float, turn: float) -> None:
    """Where row + d <= 0, |d_i| >= max(row_i, 0); so below that norm, whatever the direction, some weight is positive.

    On a photo where that channel alone is active, the map is.
    """
    row, photos = normal(6, seed=seed), normal(6, 40, seed=seed + 1).clamp(min=0)
    shift = smallest_shift(row)
    assert ((row + shift) @ photos).max() <= 0
    assume(float(shift.norm()) > 1e-6)
    other = normal(6, seed=seed + 2)
    direction = (1 - turn) * shift / shift.norm() + turn * other / other.norm()
    left = row + size * shift.norm() * direction / direction.norm()
    photo = torch.zeros(6, 1, dtype=torch.float64)
    photo[left.argmax()] = 1
    assert (left @ photo).item() > 0


@given(seeds)
def test_the_smallest_shift_of_one_photo_is_the_quadratic_program_s(seed: int) -> None:
    row, cells = normal(5, seed=seed), normal(5, 7, seed=seed + 1).clamp(min=0)
    shift = smallest_shift_of_cells(row, cells)
    left = ((row + shift) @ cells).numpy()
    assert left.max() < 1e-8
    oracle = minimize(
        lambda d: d @ d,
        -row.numpy(),
        jac=lambda d: 2 * d,
        constraints={
            "type": "ineq",
            "fun": lambda d: -(cells.numpy().T @ (row.numpy() + d)),
            "jac": lambda d: -cells.numpy().T,
        },
        options={"ftol": 1e-14, "maxiter": 500},
        method="SLSQP",
    )
    assert oracle.success
    assert float(shift.square().sum()) == pytest.approx(oracle.fun, rel=1e-5, abs=1e-9)
    np.testing.assert_allclose(shift.numpy(), oracle.x, atol=1e-4)


@given(seeds, st.integers(2, 9))
def test_cells_that_repeat_ask_for_no_more(seed: int, copies: int) -> None:
    """Equal cells and empty ones, as flat photos have them, leave the quadratic program without full rank."""
    row, cells = normal(5, seed=seed), normal(5, 4, seed=seed + 1).clamp(min=0)
    repeated = torch.cat((cells.repeat(1, copies), torch.zeros(5, 2, dtype=torch.float64)), 1)
    shift = smallest_shift_of_cells(row, repeated)
    assert ((row + shift) @ repeated).max() < 1e-8
    torch.testing.assert_close(shift, smallest_shift_of_cells(row, cells), atol=1e-7, rtol=0)


def test_what_a_shift_leaves_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of what empties one photo's cells leaves half of the map's peak."""
    model = wrapped("pooled-linear")
    forwards, whole = kept(model, images(4))
    layer = find_last_layer(exact(model.softmax_head), whole)
    assert layer is not None
    index, method = whole.logits.argmax(1), methods.get("cam")
    plain = draw_maps(forwards, index, method, layer, NO_SHIFT).plain
    monkeypatch.setattr(collapse, "smallest_shift_of_cells", lambda row, cells: -row / 2)
    found = measure_collapse(layer, layer.inputs(whole), forwards, index, method, plain)
    peaks = plain.signed.max((1, 2)) / np.abs(plain.signed).max((1, 2))
    assert found.map_left == pytest.approx(max(0.0, float(peaks.max()) / 2))
    assert found.map_left > 0.1


def test_a_map_without_positive_cells_needs_no_shift() -> None:
    cells = torch.rand(4, 6, dtype=torch.float64)
    assert smallest_shift_of_cells(-torch.ones(4, dtype=torch.float64), cells).norm() == 0


@pytest.mark.parametrize("activation", [torch.nn.ReLU, torch.nn.SiLU])
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_run_and_nothing_is_left(kind: HeadKind, activation: type[torch.nn.Module]) -> None:
    model = wrapped(kind, activation)
    forwards, whole = kept(model, images(10))
    head = exact(model.softmax_head)
    layer = find_last_layer(head, whole)
    assert layer is not None
    index, method = whole.logits.argmax(1), methods.get(default_method(head))
    maps = draw_maps(forwards, index, method, layer, NO_SHIFT)
    found = measure_collapse(layer, layer.inputs(whole), forwards, index, method, maps.plain)
    assert maps.plain.positive.max() > 1e-5
    assert found.map_left < 1e-9
    shifts = -(layer.weight.clamp(min=0) if found.law == "positive weights" else layer.weight)
    assert highest_after(layer, forwards, index, method, shifts[index]).max() < 1e-12
    assert found.probability_change < 1e-12
    closed = head.is_linear and model.anatomy.nonnegative
    assert found.law == ("positive weights" if closed else "whole row")
    if closed:
        assert found.channels is not None
        assert found.cells is not None
        assert found.cells.mean <= found.channels.mean + 1e-9 <= found.any_photo.mean + 2e-9 < 1
    else:
        assert found.any_photo.mean == pytest.approx(1)
    assert 0 <= found.negative.mean <= 1
    assert found.classes == model.classes
    assert found.classes_mostly_negative.n == len(index.unique())  # type: ignore[no-untyped-call]


def test_mostly_negative_classes_are_counted() -> None:
    model = wrapped("pooled-linear")
    assert isinstance(model, dualcam.DualBranch)
    forwards, whole = kept(model, images(4))
    rows = model.softmax_head.last_layer()
    assert rows is not None
    with torch.no_grad():
        rows.weight.copy_(-rows.weight.abs())  # the predicted class is the one that is spoken against least
    layer = find_last_layer(exact(model.softmax_head), whole)
    assert layer is not None
    index = whole.logits.argmax(1)
    method = methods.get("cam")
    maps = draw_maps(forwards, index, method, layer, NO_SHIFT)
    found = measure_collapse(layer, layer.inputs(whole), forwards, index, method, maps.plain)
    assert found.negative.mean == found.mostly_negative.mean == found.classes_mostly_negative.mean == 1
    assert found.any_photo.mean == 0
