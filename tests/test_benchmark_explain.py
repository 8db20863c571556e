"""The benchmark of an explanation's cost leaves nothing behind: hooks and graphs would be part of others' figures."""

import gc
from contextlib import contextmanager
from typing import Any

import pytest
from torch import Tensor

from benchmarks.explain import spent
from benchmarks.explain_calls import Subject, opened
from tests.observe import changed, snapshot

VARIANTS = ("plain", "tail only 5", "dualcam 5", "torchcam 5", "captum 5", "grad-cam 5")


@pytest.fixture(scope="module")
def subject() -> Subject:
    made = Subject("mobilenet_v2", 1)
    for variant in VARIANTS:
        with opened(variant, made) as call:
            call()
    made.release()
    return made


def graphs() -> list[Any]:
    return [found for found in gc.get_objects() if issubclass(type(found), Tensor) and found.grad_fn is not None]


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_hook_gradient_or_graph_is_left_for_the_next_call(variant: str, subject: Subject) -> None:
    before, known = snapshot(subject.model), {id(found) for found in graphs()}
    assert spent(subject, opened(variant, subject)) > 0
    assert not changed(before, snapshot(subject.model))
    assert all(id(found) in known for found in graphs())


def test_peers_would_leave_them_without_that(subject: Subject) -> None:
    before, known = snapshot(subject.model), {id(found) for found in graphs()}
    with opened("torchcam 1", subject) as call:
        call()
        assert any(id(found) not in known for found in graphs())
        assert changed(before, snapshot(subject.model))
    subject.release()


def test_set_up_and_release_are_not_timed(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.process_time", lambda: now)

    @contextmanager
    def slow_set_up() -> Any:
        nonlocal now
        now += 10

        def call() -> None:
            nonlocal now
            now += 1

        yield call
        now += 100

    assert spent(subject, slow_set_up()) == 1
