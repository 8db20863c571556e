"""Which score is explained, of which classes."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dualcam.errors import ChoiceError, ClassNotFound
from dualcam.targets import SCORES, class_index, resolve_classes, score_gradients
from dualcam.types import Score

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
        (torch.zeros(2, 2, 2), ChoiceError, r"\(2, 2, 2\)"),
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
