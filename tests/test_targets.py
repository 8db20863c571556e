"""Which score is explained, of which classes."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dualcam.errors import ChoiceError, ClassNotFound
from dualcam.targets import SCORES, class_index, resolve_classes, score_gradients, score_values, similar_classes
from dualcam.tuning import Tuning, make_tuning
from dualcam.types import Score
from tests.models import images, wrapped

NAMES = ("tench", "Goldfish", "great white shark", "crane", "crane", "7")
LOGITS = torch.tensor([[0.0, 5, 1, 2, 3, -1], [9, 0, 8, 7, 1, 2]])


@pytest.mark.parametrize("score", SCORES)
@given(seed=st.integers(0, 1000), scale=st.sampled_from([0.1, 1.0, 30.0]))
def test_closed_forms_equal_autograd(score: Score, seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = (scale * torch.randn(3, 5, generator=generator, dtype=torch.float64)).requires_grad_()
    index = torch.randint(5, (3, 2), generator=generator)
    found = score_gradients(logits.detach(), index, score)
    assert found.shape == (3, 2, 5)
    values = SCORES[score](logits).gather(1, index)
    for column in range(2):
        (expected,) = torch.autograd.grad(values[:, column].sum(), logits, retain_graph=True)
        torch.testing.assert_close(found[:, column], expected, rtol=1e-9, atol=1e-12)


def test_scores_are_their_formulas() -> None:
    logits = torch.tensor([[1.0, -2, 0.5, 3]], dtype=torch.float64)
    p = logits.exp() / logits.exp().sum()
    torch.testing.assert_close(SCORES["logit"](logits), logits)
    torch.testing.assert_close(SCORES["centered"](logits), logits - 0.625)
    torch.testing.assert_close(SCORES["probability"](logits), p)
    torch.testing.assert_close(SCORES["log-probability"](logits), p.log())
    torch.testing.assert_close(SCORES["log-odds"](logits), (p / (1 - p)).log())


@given(seed=st.integers(0, 1000), gamma=st.floats(0, 2), similar=st.integers(1, 7))
def test_finer_is_its_formula_and_its_gradient(seed: int, gamma: float, similar: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 5, generator=generator, dtype=torch.float64).requires_grad_()
    tuning = Tuning(gamma=gamma, similar=similar)
    values = score_values(logits, "finer", tuning)
    index = torch.tensor([[4, 0], [2, 2]])
    for image in range(2):
        for k in range(5):
            distance = (logits[image] - logits[image, k]).abs().tolist()
            others = sorted((j for j in range(5) if j != k), key=distance.__getitem__)
            near = others[:similar]
            expected = logits[image, k] - gamma * sum(logits[image, j] for j in near) / len(near)
            torch.testing.assert_close(values[image, k], expected)
    found = score_gradients(logits.detach(), index, "finer", tuning)
    for column in range(2):
        (expected,) = torch.autograd.grad(values.gather(1, index)[:, column].sum(), logits, retain_graph=True)
        torch.testing.assert_close(found[:, column], expected)


def test_rest_is_the_logit_less_the_cross_entropy() -> None:
    logits = torch.randn(4, 6, dtype=torch.float64)
    for k in range(6):
        loss = torch.nn.functional.cross_entropy(logits, torch.full((4,), k), reduction="none")
        torch.testing.assert_close(SCORES["rest"](logits)[:, k], logits[:, k] - loss)


def test_one_class_alone_has_no_similar_class() -> None:
    logits = torch.randn(3, 1, dtype=torch.float64)
    index = torch.zeros(3, 1, dtype=torch.long)
    assert torch.equal(SCORES["finer"](logits), logits)
    assert similar_classes(logits, index, 3).shape == (3, 1, 0)
    assert torch.equal(score_gradients(logits, index, "finer"), torch.ones(3, 1, 1, dtype=torch.float64))


def test_numbers_out_of_range_or_unread_are_errors() -> None:
    with pytest.raises(ChoiceError, match=r"gamma must lie in \[0, inf\]; got -1"):
        make_tuning({"gamma": -1})
    with pytest.raises(ChoiceError, match=r"similar must be at least 1"):
        Tuning(similar=0)
    with pytest.raises(ChoiceError, match=r"no 'gama'; it holds .*gamma, similar"):
        make_tuning({"gama": 1})
    with pytest.raises(ChoiceError, match=r"gamma=1 is not read by method 'cam' and score 'logit'; leave it out"):
        wrapped("pooled-linear").explain(images(), tuning={"gamma": 1})
    assert make_tuning(None) == Tuning()


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (None, [[1], [0]]),
        (2, [[2], [2]]),
        ("tench", [[0], [0]]),
        ("GOLDFISH", [[1], [1]]),
        ("3", [[3], [3]]),
        ("7", [[5], [5]]),  # a name that looks like an index is a name
        ("top1", [[1], [0]]),
        ("top3", [[1, 4, 3], [0, 2, 3]]),
        ("top99", [[1, 4, 3, 2, 0, 5], [0, 2, 3, 5, 4, 1]]),
        ("all", [[0, 1, 2, 3, 4, 5]] * 2),
        ([4, "tench"], [[4, 0]] * 2),
        ((1, 1), [[1, 1]] * 2),
        (torch.tensor([4, 2]), [[4], [2]]),
        (torch.tensor([[4, 1], [2, 0]]), [[4, 1], [2, 0]]),
        (torch.tensor([4, 2], dtype=torch.int32), [[4], [2]]),
    ],
)
def test_what_the_user_asked_for(classes: Any, expected: list[list[int]]) -> None:
    assert resolve_classes(classes, LOGITS, NAMES).tolist() == expected


@pytest.mark.parametrize(
    ("classes", "error", "message"),
    [
        (6, ClassNotFound, r"class 6 does not exist.*0\.\.5"),
        (-1, ClassNotFound, r"class -1 does not exist.*0\.\.5"),
        ("-1", ClassNotFound, r"class -1 does not exist"),
        ("12", ClassNotFound, r"class 12 does not exist"),
        ("goldfsh", ClassNotFound, "goldfish"),
        ("shark", ClassNotFound, "great white shark"),
        ("crane", ClassNotFound, r"\[3, 4\].*index"),
        ("zzz", ClassNotFound, "no class is called 'zzz'$"),
        ("top0", ClassNotFound, "at least top1"),
        ([], ChoiceError, "empty"),
        (torch.tensor([0]), ChoiceError, r"B=2.*\(1,\)"),
        (torch.zeros(2, 2, 2, dtype=torch.long), ChoiceError, r"\(2, 2, 2\)"),
        (torch.tensor([0, 6]), ClassNotFound, r"0\.\.5; got 0\.\.6"),
        (torch.tensor([-1, 0]), ClassNotFound, r"got -1\.\.0"),
    ],
)
def test_what_can_not_be_asked_for(classes: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        resolve_classes(classes, LOGITS, NAMES)


def test_a_class_called_like_a_choice_is_found_by_name() -> None:
    assert resolve_classes("top2", LOGITS, ("a", "top2", "b", "c", "d", "e")).tolist() == [[1], [1]]


def test_without_names_an_index_is_asked_for() -> None:
    assert class_index("2", 6, None) == 2
    with pytest.raises(ClassNotFound, match=r"no class names; pass an index 0\.\.5"):
        class_index("tench", 6, None)


@given(seed=st.integers(0, 1000), scale=st.sampled_from([0.1, 1.0, 30.0, 300.0]), classes=st.integers(2, 6))
def test_log_odds_are_the_logit_less_the_others_sum(seed: int, scale: float, classes: int) -> None:
    """Class by class, where p_k rounds to 0 or 1 as well as where classes tie."""
    logits = scale * torch.randn(3, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    logits[1] = logits[1, 0]
    found = SCORES["log-odds"](logits)
    for k in range(classes):
        others = torch.cat((logits[:, :k], logits[:, k + 1 :]), 1)
        torch.testing.assert_close(found[:, k], logits[:, k] - others.logsumexp(1), rtol=1e-12, atol=1e-12)
