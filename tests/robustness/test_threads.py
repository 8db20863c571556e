"""Threads that explain with one model at once get what one thread gets, and leave the model as it was."""

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

import dualcam
from dualcam.guards import evaluating
from dualcam.types import HeadKind
from tests.models import KINDS, images, maps, wrapped
from tests.observe import changed, snapshot


@pytest.fixture(autouse=True)
def _restless() -> Iterator[None]:
    """Let threads take turns a hundred times as often as they do by default, so that what can collide does."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(5e-5)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_results_are_those_of_one_thread(kind: HeadKind, train: bool) -> None:
    model = wrapped(kind).train(train)
    batches = [images(1 + seed % 3, seed=seed) for seed in range(40)]
    expected = [maps(model.explain(batch, "all", method="layer-cam")) for batch in batches]
    before = snapshot(model)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda batch: maps(model.explain(batch, "all", method="layer-cam")), batches))
    assert changed(before, snapshot(model)) == []
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_an_optimized_model_serves_threads_too() -> None:
    model = dualcam.optimize(wrapped("mlp", dtype=torch.float32))
    batches = [images(1 + seed % 3, torch.float32, seed) for seed in range(40)]
    expected = [maps(model.explain(batch, "all")) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda batch: maps(model.explain(batch, "all")), batches))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_a_model_in_train_mode_goes_back_when_the_last_thread_leaves() -> None:
    """The first thread to leave must not put the others' forward into train mode."""
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.9)).train()
    model[1].eval()
    inside, leave = threading.Event(), threading.Event()
    modes: list[bool] = []

    def stay() -> None:
        with evaluating(model):
            inside.set()
            leave.wait()
            modes.extend(module.training for module in model.modules())

    thread = threading.Thread(target=stay)
    with evaluating(model):
        thread.start()
        inside.wait()
    assert not any(module.training for module in model.modules())
    leave.set()
    thread.join()
    assert modes == [False, False, False]
    assert [module.training for module in model.modules()] == [True, True, False]


def test_the_same_thread_may_nest() -> None:
    model = nn.Sequential(nn.Dropout(0.5)).train()
    with evaluating(model):
        with evaluating(model[0]):
            assert not model[0].training
        assert not model[0].training
    assert model[0].training


def test_a_plain_forward_beside_explanations_is_not_tapped() -> None:
    """Another thread's forward of the user's own, through the layer that is tapped, neither stops nor is recorded."""
    model = wrapped("mlp")
    batch, other = images(seed=1), images(3, seed=2)
    expected, logits = maps(model.explain(batch, "all")), model.classifier(other)
    done = threading.Event()
    plain: list[Tensor] = []

    def forward() -> None:
        with torch.no_grad():
            while not done.is_set():
                plain.append(model.classifier(other))

    thread = threading.Thread(target=forward)
    thread.start()
    try:
        found = [maps(model.explain(batch, "all")) for _ in range(60)]
        features = [model.activations(batch).detach() for _ in range(60)]
    finally:
        done.set()
        thread.join()
    assert plain
    assert all(torch.equal(item, logits) for item in plain)
    assert all(torch.equal(item, expected) for item in found)
    assert all(torch.equal(item, features[0]) for item in features)
