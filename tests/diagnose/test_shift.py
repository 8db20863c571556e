"""The additive shift: no probability moves, every map does, by exactly the shift's own map."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import dualcam
from dualcam import methods
from dualcam.data.preprocessing import Placement
from dualcam.description import default_method
from dualcam.diagnose.agreement import Judge, energy_share
from dualcam.diagnose.last_layer import LastLayer, exact, find_last_layer
from dualcam.diagnose.maps import SIGMOID, Drawn, Maps, draw_maps
from dualcam.diagnose.shift import draw_directions, negative_share, probability_change, shift_effects, sigmoid_shifts
from dualcam.types import HeadKind, Tapped
from tests.diagnose.forwards import kept
from tests.models import KINDS, PREPROCESSING, images, tiny, wrapped

seeds = st.integers(0, 10_000)


def drawn(model: dualcam.DualBranch, shifts: torch.Tensor | None = None) -> tuple[Drawn, Tapped, LastLayer]:
    forwards, tapped = kept(model, images())
    layer = find_last_layer(exact(model.softmax_head), tapped)
    assert layer is not None
    method = methods.get(default_method(model.softmax_head))
    none = torch.zeros(0, layer.weight.shape[1], dtype=torch.float64)
    maps = draw_maps(forwards, tapped.logits.argmax(1), method, layer, none if shifts is None else shifts)
    return maps, tapped, layer


@given(seeds, st.floats(0.01, 10))
def test_probabilities_stay_and_maps_move_by_the_shift_s_own_map(seed: int, size: float) -> None:
    model = wrapped("pooled-linear")
    shift = size * torch.randn(1, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    maps, tapped, layer = drawn(model, shift)
    assert maps.shifted is not None
    moved = torch.einsum("d,bdhw->bhw", shift[0], tapped.activations).numpy()
    np.testing.assert_allclose(maps.shifted.signed[:, 0] - maps.plain.signed, moved, atol=1e-11 * max(1, size))
    assert probability_change(layer, layer.inputs(tapped), shift[0]) < 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_shifted_maps_are_those_of_a_shifted_model(kind: HeadKind) -> None:
    classifier = tiny(kind)
    model = dualcam.wrap(classifier, preprocessing=PREPROCESSING)
    plain, _, layer = drawn(model)
    shift = torch.randn(1, layer.weight.shape[1], dtype=torch.float64)
    other = deepcopy(classifier)
    last = [part for part in other.modules() if isinstance(part, torch.nn.Linear | torch.nn.Conv2d)][-1]
    with torch.no_grad():
        last.weight += shift.view_as(last.weight[:1])
        assert last.bias is not None
        last.bias.add_(3.0)
    expected, _, _ = drawn(dualcam.wrap(other, preprocessing=PREPROCESSING))
    found, _, _ = drawn(model, shift)
    assert found.shifted is not None
    assert np.abs(expected.plain.signed - plain.plain.signed).max() > 1e-2
    np.testing.assert_allclose(found.shifted.signed[:, 0], expected.plain.signed, atol=1e-10)
    np.testing.assert_allclose(found.shifted.positive[:, 0], expected.plain.positive, atol=1e-10)
    for score in ("centered", "log-odds", "log-probability", "probability"):
        np.testing.assert_allclose(expected.by_score[score].signed, plain.by_score[score].signed, atol=1e-10)


def test_the_sigmoid_branch_s_maps_are_its_own() -> None:
    model = wrapped("pooled-linear")
    maps, _, _ = drawn(model)
    with torch.no_grad():
        index = model(images()).softmax.argmax(1)
    explained = model.explain(images(), index, branch="sigmoid", sign="signed", method="cam")
    np.testing.assert_allclose(maps.by_score[SIGMOID].signed, np.stack([one.raw[0].numpy() for one in explained]))


def test_a_planted_offset_is_found_and_its_share_is_the_formula_s() -> None:
    model = wrapped("pooled-linear")
    _, tapped, layer = drawn(model)
    inputs = layer.inputs(tapped)
    directions = draw_directions(inputs, 3, 0)
    torch.testing.assert_close(directions.norm(dim=1), torch.ones(3, dtype=torch.float64))
    sizes = (0.2, 2.0)
    shifts = torch.cat([size * layer.row_norm * directions for size in sizes])
    maps, _, _ = drawn(model, shifts)
    judge = Judge([Placement.identity(32, 24)] * 2)
    small, large = shift_effects(layer, inputs, directions, sizes, maps, judge)
    rows = layer.weight[torch.from_numpy(inputs.numpy() @ layer.weight.numpy().T + layer.bias.numpy()).argmax(1)]
    by_hand = []
    for vector in shifts[3:]:
        mean = torch.einsum("d,bdhw->bhw", layer.weight.mean(0) + vector, tapped.activations)
        rest = torch.einsum("bd,bdhw->bhw", rows - layer.weight.mean(0), tapped.activations)
        by_hand.append((mean.square().sum((1, 2)) / (mean.square() + rest.square()).sum((1, 2))).mean())
    assert large.arbitrary.mean == pytest.approx(float(torch.stack(by_hand).mean()), rel=1e-9)
    assert large.arbitrary.mean > small.arbitrary.mean
    assert large.agreement.rank.mean < small.agreement.rank.mean
    assert max(small.probability_change, large.probability_change) < 1e-12
    assert large.logit_change.mean == pytest.approx(float((inputs @ shifts[3:].T).abs().mean()))
    assert large.arbitrary.n == 2


def test_the_sigmoid_branch_feels_the_shift() -> None:
    model = wrapped("pooled-linear")
    _, tapped, layer = drawn(model)
    inputs = layer.inputs(tapped)
    direction = draw_directions(inputs, 1, 0)
    (effect,) = sigmoid_shifts(layer, inputs, direction, [50.0])
    scores = inputs @ layer.weight.T + layer.bias
    after = scores + (inputs @ (50 * layer.row_norm * direction[0]))[:, None]
    assert effect.flipped.mean == pytest.approx(float(((scores > 0) != (after > 0)).double().mean()))
    assert effect.flipped.mean > 0.1
    assert effect.probability_change.mean == pytest.approx(float((after.sigmoid() - scores.sigmoid()).abs().mean()))


def test_directions_lie_in_the_span_and_come_from_the_seed() -> None:
    inputs = torch.randn(3, 10, dtype=torch.float64)
    directions = draw_directions(inputs, 5, 7)
    assert int(torch.linalg.matrix_rank(torch.cat((inputs, directions)))) == 3
    assert torch.equal(directions, draw_directions(inputs, 5, 7))
    assert not torch.allclose(directions, draw_directions(inputs, 5, 8))


def test_energy_shares() -> None:
    part, rest = np.array([[[3.0, 0.0]], [[0.0, 0.0]]]), np.array([[[0.0, 4.0]], [[0.0, 0.0]]])
    np.testing.assert_allclose(energy_share(part, rest), [9 / 25, 0])


@pytest.mark.parametrize("kind", KINDS)
def test_over_all_classes_the_energies_of_both_parts_add_up_to_the_maps(kind: HeadKind) -> None:
    """The mean row's part is orthogonal to the centered one's: what makes its share one of a whole."""
    model = wrapped(kind)
    forwards, _ = kept(model, images())
    method = methods.get(default_method(model.softmax_head))
    none = torch.zeros(0, 0, dtype=torch.float64)
    whole = parts = arbitrary = np.zeros(2)
    for chosen in range(model.classes):
        maps = draw_maps(forwards, torch.full((2,), chosen), method, None, none)
        plain, centered = maps.plain.signed, maps.by_score["centered"].signed
        whole = whole + np.square(plain).sum((1, 2))
        arbitrary = arbitrary + np.square(plain - centered).sum((1, 2))
        parts = parts + np.square(plain - centered).sum((1, 2)) + np.square(centered).sum((1, 2))
    np.testing.assert_allclose(parts, whole, rtol=1e-9)
    assert (arbitrary > 1e-6 * whole).all()


def test_negative_share_weighs_evidence_for_and_against() -> None:
    maps = Maps(signed=np.array([[[1.0, -1.0]], [[0.0, 0.0]]]), positive=np.array([[[2.0, 1.0]], [[0.0, 0.0]]]))
    np.testing.assert_allclose(negative_share(maps), [3 / 6, 0])
