"""Any shape, type, layout, class and method gives the map that the plainest form of the same numbers gives."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import dualcam
from dualcam import methods
from dualcam.targets import SCORES
from dualcam.types import HeadKind
from tests.models import (
    CLASSES,
    KINDS,
    LINEAR,
    ON_CONVOLUTIONS,
    PREPROCESSING,
    explain_planted,
    images,
    maps,
    plant,
    tiny,
    wrapped,
)

NAMES = sorted(ON_CONVOLUTIONS)
PLAIN = [name for name, method in methods.available().items() if not method.needs]


def strided(value: Tensor) -> Tensor:
    """Return the same numbers as every second element of larger storage."""
    return torch.stack([value, value + 1], -1)[..., 0]


def turned(value: Tensor) -> Tensor:
    """Return the same numbers, stored columns first."""
    return value.transpose(-1, -2).contiguous().transpose(-1, -2)


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": torch.Tensor.contiguous,
    "channels last": lambda value: value.contiguous(memory_format=torch.channels_last),
    "strided": strided,
    "turned": turned,
}
OPTIONS = st.fixed_dictionaries(
    {
        "method": st.sampled_from(PLAIN),
        "branch": st.sampled_from(["softmax", "sigmoid"]),
        "sign": st.sampled_from(["signed", "positive", "negative"]),
        "score": st.sampled_from(sorted(SCORES)),
        "clamp": st.sampled_from(["auto", "weights", "contributions"]),
        "normalize": st.sampled_from(["max", "minmax", "ivr", None]),
    }
)
SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 5), st.integers(1, 5))


def numbers(seed: int, shape: tuple[int, ...], classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return activations of ``shape``, class rows and biases, in double precision."""
    generator = torch.Generator().manual_seed(seed)
    activations = torch.randn(shape, generator=generator, dtype=torch.float64)
    weight = torch.randn(classes, shape[1], generator=generator, dtype=torch.float64)
    return activations, weight, torch.randn(classes, generator=generator, dtype=torch.float64)


@settings(max_examples=100)
@given(
    shape=SHAPES,
    classes=st.integers(2, 5),
    layout=st.sampled_from(sorted(LAYOUTS)),
    rectified=st.booleans(),
    opaque=st.booleans(),
    seed=st.integers(0, 2**16),
    options=OPTIONS,
)
def test_layouts_and_shapes(
    shape: tuple[int, int, int, int],
    classes: int,
    layout: str,
    rectified: bool,
    opaque: bool,
    seed: int,
    options: dict[str, Any],
) -> None:
    activations, weight, bias = numbers(seed, shape, classes)
    activations = activations.relu() if rectified else activations
    if opaque and methods.get(options["method"]).needs_rows:
        options = options | {"method": "grad-cam"}
    expected = explain_planted(activations, weight, bias, opaque=opaque, **options)
    found = explain_planted(LAYOUTS[layout](activations), weight, bias, opaque=opaque, **options)
    scale = activations.abs().max() * weight.abs().max()
    torch.testing.assert_close(maps(found), maps(expected), rtol=1e-9, atol=float(1e-12 * (1 + scale)))
    assert maps(found).shape == (shape[0], classes, *shape[2:])
    for explanation in found:
        for evidence in explanation:
            assert evidence.is_finite
            assert np.isfinite(evidence.map).all()
            assert evidence.map.shape == shape[2:]
            assert evidence.is_flat == (not evidence.heatmap(size=(64, 64)).any())


@settings(max_examples=60)
@given(
    kind=st.sampled_from(KINDS),
    silu=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    given_dtype=st.sampled_from([torch.float64, torch.float32, torch.float16]),
    layout=st.sampled_from(sorted(LAYOUTS)),
    batch=st.integers(1, 3),
    classes=st.one_of(
        st.none(), st.just("all"), st.just("top2"), st.integers(0, CLASSES - 1), st.lists(st.integers(0, 4), min_size=1)
    ),
    options=OPTIONS,
)
def test_types_and_classes(
    kind: HeadKind,
    silu: bool,
    dtype: torch.dtype,
    given_dtype: torch.dtype,
    layout: str,
    batch: int,
    classes: Any,
    options: dict[str, Any],
) -> None:
    """Half precision explains what single precision does, as far as it can tell the classes apart."""
    if kind not in LINEAR and methods.get(options["method"]).needs_rows:
        options = options | {"method": "layer-cam"}
    photos = images(batch, torch.float32)
    activation = nn.SiLU if silu else nn.ReLU
    model, exact = (wrapped(kind, activation, dtype=each) for each in (dtype, torch.float32))
    theirs = model.explain(LAYOUTS[layout](photos.to(given_dtype)), classes, **options)
    assert len(theirs) == batch
    for explanation in theirs:
        assert explanation.raw.dtype == torch.float32
        assert all(evidence.is_finite and np.isfinite(evidence.map).all() for evidence in explanation)
    index = torch.stack([explanation.indices for explanation in theirs])
    ours = maps(exact.explain(photos, index, **options), "signed")
    found = maps(theirs, "signed")
    assert found.shape == ours.shape
    if not options["method"].startswith("eigen"):  # where two components are nearly as large, rounding chooses
        assert (found - ours).abs().max() <= 0.15 * ours.abs().max() + 1e-3


def spoiled(value: float, image: int) -> Tensor:
    """Return images of which one has a pixel that is not a number, or not a finite one."""
    batch = images(3)
    batch[image, 1, 11, 15] = value
    return batch


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("kind", KINDS)
def test_numbers_that_are_not_finite_are_flagged_and_cost_only_their_image(kind: HeadKind, value: float) -> None:
    model = wrapped(kind)
    for name in NAMES:
        method = methods.get(name)
        if kind not in LINEAR and method.needs_rows:
            continue
        for branch in ("softmax", "sigmoid"):
            clean = model.explain(images(3), [0, 2], method=name, branch=branch)
            found = model.explain(spoiled(value, 1), [0, 2], method=name, branch=branch)
            for image in (0, 2):
                torch.testing.assert_close(found[image].raw, clean[image].raw, rtol=1e-9, atol=1e-12)
                assert all(evidence.is_finite for evidence in found[image])
            assert not found[1].finite.any()
            for evidence in found[1]:
                assert not evidence.is_finite
                assert evidence.is_flat
                assert not evidence.raw.any()
                assert not evidence.signed.any()
                assert not evidence.map.any()
                assert evidence.boxes() == []


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_every_sign_and_normalization_of_a_broken_image(value: float) -> None:
    model = wrapped("mlp", nn.SiLU)
    for sign in ("positive", "signed", "negative"):
        for normalize in ("max", "minmax", "ivr", None):
            (explanation,) = model.explain(spoiled(value, 0)[:1], sign=sign, normalize=normalize)
            assert not explanation.is_finite
            assert not explanation[0].is_finite
            assert not explanation[0].map.any()


@pytest.mark.parametrize("constant", [0.0, 1.0, -2.0])
@pytest.mark.parametrize("opaque", [False, True])
@pytest.mark.parametrize("method", PLAIN)
def test_constant_activations(method: str, opaque: bool, constant: float) -> None:
    """Each cell speaks alike: the map is as even as they are, finite, and its heat map has nothing to show or all."""
    if opaque and methods.get(method).needs_rows:
        return
    _, weight, bias = numbers(0, (1, 4, 3, 5), 3)
    activations = torch.full((2, 4, 3, 5), constant, dtype=torch.float64)
    for sign in ("signed", "positive", "negative"):
        for explanation in explain_planted(activations, weight, bias, opaque=opaque, method=method, sign=sign):
            for evidence in explanation:
                assert evidence.is_finite
                raw = evidence.raw
                torch.testing.assert_close(raw, raw.mean().expand_as(raw), rtol=1e-9, atol=1e-12)
                assert set(np.unique(evidence.heatmap("max").round(6))) <= {0.0, 1.0}
                assert not evidence.heatmap("minmax").any()
                assert not evidence.heatmap("ivr").any()


def test_weights_that_are_not_finite_are_flagged_though_activations_are() -> None:
    classifier = tiny("pooled-linear")
    model = dualcam.wrap(classifier, preprocessing=PREPROCESSING)
    with torch.no_grad():
        model.sigmoid_head.rows().weight[2].fill_(torch.nan)
    (explanation,) = model.explain(images(1), "all")
    assert explanation.finite.tolist() == [True, True, False, True, True]
    assert not explanation[2].map.any()
    assert explanation[1].map.any()


def test_huge_numbers_that_overflow_are_flagged() -> None:
    activations, weight, bias = numbers(3, (1, 4, 3, 3), 3)
    model = plant(activations * 1e308, weight * 1e3, bias)
    (explanation,) = model.explain(torch.zeros(1, 3, 3, 3, dtype=torch.float64), 0, sign="signed")
    assert not explanation[0].is_finite
    assert not explanation[0].map.any()
