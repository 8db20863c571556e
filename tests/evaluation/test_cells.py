"""Which cells are the same by law, and that they are the same in numbers."""

import numpy as np
import pytest
import torch

import dualcam
from dualcam import methods
from dualcam.cli.evaluate import GridOptions
from dualcam.data.prepared import prepare_tensor
from dualcam.errors import ChoiceError, MethodNotApplicable
from dualcam.evaluation.cells import BRANCHES, PARALLEL, USUAL_BRANCHES, Grid, MapKind, make_grid
from dualcam.evaluation.views import raw_maps
from dualcam.explainer import run_model
from dualcam.heatmap import normalize
from dualcam.types import HeadKind
from tests.models import LINEAR, PREPROCESSING, SIZE, tiny, wrapped

IMAGES = torch.rand(3, 3, *SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
LABELS = torch.tensor([0, 2, 4])


def all_maps(model: dualcam.DualBranch, grid: Grid) -> dict[MapKind, torch.Tensor]:
    forward = run_model(model, prepare_tensor(model.preprocessing, IMAGES))
    maps = raw_maps(model, forward, grid.kinds, LABELS)
    return {kind: maps[:, place] for place, kind in enumerate(grid.kinds)}


@pytest.mark.parametrize("kind", LINEAR)
@pytest.mark.parametrize("activation", [torch.nn.ReLU, torch.nn.SiLU])
def test_cells_called_the_same_are_the_same(kind: HeadKind, activation: type[torch.nn.Module]) -> None:
    model = wrapped(kind, activation)
    grid = make_grid(model)
    assert len(grid.kinds) == 4 * 2 * sum(method.usual for method in methods.available().values())
    assert len(grid.computed) == 4 * 2 * 2  # by branch and sign: CAM and all that equal it, and Grad-CAM++
    maps = all_maps(model, grid)
    for each, other in grid.same.items():
        for how in grid.normalizations:
            for ours, theirs in zip(maps[each].numpy(), maps[other].numpy(), strict=True):
                np.testing.assert_allclose(normalize(ours, how), normalize(theirs, how), atol=2e-5)


@pytest.mark.parametrize("kind", ["pooled-linear", "mlp"])
def test_scores_with_parallel_gradients_draw_the_same_maps(kind: HeadKind) -> None:
    model = wrapped(kind)
    grid = make_grid(model, branch=PARALLEL)
    assert {each.branch for each in grid.computed if methods.get(each.method).homogeneous} == {"softmax-log-odds"}
    assert {each.branch for each in grid.computed if each.method == "grad-cam++"} == set(PARALLEL)
    maps = all_maps(model, grid)
    for each, other in grid.same.items():
        for how in grid.normalizations:
            for ours, theirs in zip(maps[each].numpy(), maps[other].numpy(), strict=True):
                np.testing.assert_allclose(normalize(ours, how), normalize(theirs, how), atol=2e-5)
    changed = [each for each in grid.kinds if each.branch == "softmax-probability"]
    first = [each._replace(branch="softmax-log-odds") for each in changed]
    assert not any(torch.allclose(maps[one], maps[other], rtol=1e-2) for one, other in zip(changed, first, strict=True))


def test_the_usual_grid_has_four_branches() -> None:
    assert {kind.branch for kind in make_grid(wrapped("mlp")).kinds} == set(USUAL_BRANCHES)
    assert GridOptions().branch == USUAL_BRANCHES
    assert len(USUAL_BRANCHES) == 4
    assert set(BRANCHES) == {*USUAL_BRANCHES, *PARALLEL, "softmax-rest", "softmax-finer", "sigmoid-finer"}


def test_cells_called_different_are_different() -> None:
    model = wrapped("pooled-linear")
    grid = make_grid(model)
    maps = all_maps(model, grid)
    shown = [
        np.stack([normalize(one, "minmax") for one in maps[kind].numpy()]).round(4).tobytes() for kind in grid.computed
    ]
    assert len(set(shown)) == len(shown)


def test_heads_that_are_not_linear_have_no_identities() -> None:
    grid = make_grid(wrapped("mlp"))
    assert grid.computed == list(grid.kinds)
    assert "cam" not in {kind.method for kind in grid.kinds}


def test_an_untrained_branch_is_the_softmax_branch() -> None:
    grid = make_grid(dualcam.wrap(tiny("mlp"), preprocessing=PREPROCESSING))
    for kind, first in grid.same.items():
        if kind.branch == "sigmoid":
            assert first == kind._replace(branch="softmax")


def test_a_choice_of_cells() -> None:
    model = wrapped("pooled-linear")
    grid = make_grid(model, method=["grad-cam"], branch=["sigmoid", "softmax"], sign=["positive"], normalize=["ivr"])
    assert [str(cell) for cell in grid.cells] == ["softmax grad-cam positive ivr", "sigmoid grad-cam positive ivr"]
    assert grid.position(grid.cells[1]) == (1, 0)


def test_wrong_choices_are_named() -> None:
    model = wrapped("mlp")
    with pytest.raises(ChoiceError, match=r"softmax-centred.*softmax-centered"):
        make_grid(model, branch=["softmax-centred"])
    with pytest.raises(ChoiceError, match="sign"):
        make_grid(model, sign=["both"])
    with pytest.raises(MethodNotApplicable, match="grad-cam"):
        make_grid(model, method=["cam"])


@pytest.mark.parametrize("kind", ["pooled-linear", "mlp"])
def test_maps_are_those_of_explain(kind: HeadKind) -> None:
    model = wrapped(kind)
    named = ("grad-cam++", "score-cam", "ablation-cam", "smooth-grad-cam++", "eigen-cam")
    grid = make_grid(model, method=named, branch=tuple(BRANCHES))
    maps = all_maps(model, grid)
    for each in grid.kinds:
        branch, score = BRANCHES[each.branch]
        explained = model.explain(
            IMAGES, LABELS, method=each.method, branch=branch, score=score, sign=each.sign, normalize=None
        )
        expected = torch.stack([one.raw[0] for one in explained]).float()
        torch.testing.assert_close(maps[each], expected)


def test_methods_bring_their_numbers() -> None:
    model = wrapped("mlp")
    grid = make_grid(model, method=["score-cam", "score-cam:top_k=2", "ss-cam:top_k=3,samples=2,noise=0.5"])
    maps = all_maps(model, grid)
    for name, method, tuning in (
        ("score-cam", "score-cam", {}),
        ("score-cam:top_k=2", "score-cam", {"top_k": 2}),
        ("ss-cam:top_k=3,samples=2,noise=0.5", "ss-cam", {"top_k": 3, "samples": 2, "noise": 0.5}),
    ):
        explained = model.explain(IMAGES, LABELS, method=method, tuning=tuning, branch="softmax", sign="signed")
        expected = torch.stack([one.raw[0] for one in explained]).float()
        torch.testing.assert_close(maps[MapKind(name, "softmax", "signed")], expected)
    for wrong, message in (
        ("score-cam:top_k", "'top_k' is not NAME=NUMBER"),
        ("score-cam:top=3", "no 'top'"),
        ("score-cam:samples=3", "samples=3 is not read by method 'score-cam'"),
        ("score:top_k=3", "choose one of"),
    ):
        with pytest.raises(ChoiceError, match=message):
            make_grid(model, method=[wrong])
