"""Eigen-CAM and Eigen-Grad-CAM: the projection written out with numpy, the sign, and matrices that have none."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from dualcam.heatmap import combine, weight_parts
from dualcam.methods import get
from dualcam.methods.eigen_cam import first_direction
from dualcam.types import Evidence, HeadKind
from tests.models import KINDS, head_input, images, maps, wrapped

seeds = st.integers(0, 10_000)


def projection(matrix: Tensor) -> Tensor:
    """Return the projection [N] of ``matrix`` [N, D] on its first principal direction, by an eigenvector of M'M."""
    array = matrix.numpy()
    _, vectors = np.linalg.eigh(array.T @ array)
    return torch.from_numpy(array @ vectors[:, -1])


def assert_equal_up_to_sign(found: Tensor, expected: Tensor) -> None:
    turned = expected * torch.sign((found * expected).sum())
    torch.testing.assert_close(found, turned, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.SiLU])
@pytest.mark.parametrize("kind", KINDS)
def test_maps_are_projections_that_agree_with_their_sum(kind: HeadKind, activation: type[nn.Module]) -> None:
    model = wrapped(kind, activation)
    batch = images(3)
    leaf = model.activations(batch).detach().requires_grad_()
    head = model.sigmoid_head.eval()
    (gradients,) = torch.autograd.grad(head(head_input(model, leaf))[:, 2].sum(), leaf)
    for method, channels in (("eigen-cam", leaf.detach()), ("eigen-grad-cam", leaf.detach() * gradients)):
        found = maps(model.explain(batch, [2], method=method, sign="signed"))[:, 0]
        for image in range(3):
            assert_equal_up_to_sign(found[image].flatten(), projection(channels[image].flatten(1).T))
            assert (found[image] * channels[image].sum(0)).sum() > 0


def test_eigen_cam_of_nonnegative_activations_speaks_against_nothing() -> None:
    model = wrapped("mlp", nn.ReLU)
    negative = maps(model.explain(images(), "all", method="eigen-cam", sign="negative"))
    positive = maps(model.explain(images(), "all", method="eigen-cam", sign="positive"))
    assert negative.abs().max() < 1e-12
    assert positive.max() > 0
    torch.testing.assert_close(positive[:, :1].expand_as(positive), positive, rtol=1e-12, atol=0)


@given(seeds)
def test_eigen_grad_cam_against_the_class_is_minus_eigen_grad_cam(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    activations = torch.randn(2, 1, 5, 3, 4, generator=generator, dtype=torch.float64)
    gradients = torch.randn(2, 3, 5, 3, 4, generator=generator, dtype=torch.float64)
    one, other = (
        combine(weight_parts(get("eigen-grad-cam"), evidence), activations, "signed", clamp_weights=False)
        for evidence in (Evidence(activations, gradients, None), Evidence(activations, -gradients, None))
    )
    torch.testing.assert_close(one, -other, rtol=1e-7, atol=1e-9)


@given(seeds, st.integers(1, 6), st.integers(1, 6))
def test_the_direction_has_unit_length_and_one_sign(seed: int, rows: int, columns: int) -> None:
    matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    direction = first_direction(matrix)
    torch.testing.assert_close(direction.norm(), torch.ones((), dtype=torch.float64))
    assert direction.sum() >= 0
    torch.testing.assert_close(first_direction(-matrix), direction)
    torch.testing.assert_close((matrix @ direction).norm(), torch.linalg.matrix_norm(matrix, 2))


def test_directions_that_are_open_are_still_decided() -> None:
    opposed = torch.tensor([[2.0, -2.0]], dtype=torch.float64)  # components sum to 0
    assert first_direction(opposed).abs().allclose(torch.tensor(0.5, dtype=torch.float64).sqrt())
    assert torch.equal(first_direction(opposed), first_direction(-opposed))
    assert first_direction(torch.zeros(3, 4, dtype=torch.float64)).isfinite().all()


def test_what_is_not_finite_spoils_its_own_image_only() -> None:
    matrices = torch.randn(3, 4, 5, dtype=torch.float64)
    alone = first_direction(matrices[2])
    matrices[0, 1, 1] = torch.nan
    matrices[1, 0, 0] = torch.inf
    found = first_direction(matrices)
    assert found[:2].isnan().all()
    torch.testing.assert_close(found[2], alone)
