"""Class-balanced BCE against its formula."""

import math

import pytest
import torch

from dualcam.errors import ChoiceError
from dualcam.losses import class_balanced_bce, positive_weights


def test_value_at_zero_logits() -> None:
    classes = 200
    targets = torch.nn.functional.one_hot(torch.tensor([3, 7]), classes).double()
    weight = positive_weights(torch.tensor([3, 7]), classes, "uniform").double()
    loss = class_balanced_bce(torch.zeros(2, classes, dtype=torch.float64), targets, weight)
    assert float(loss) == pytest.approx(2 * math.log(2) * (classes - 1) / classes, abs=1e-12)
    assert float(loss) == pytest.approx(1.379363, abs=1e-6)


def test_formula_with_soft_targets() -> None:
    s, y, p = torch.randn(4, 3).double(), torch.rand(4, 3).double(), torch.tensor([2.0, 5.0, 0.5]).double()
    expected = (-p * y * s.sigmoid().log() - (1 - y) * (1 - s.sigmoid()).log()).mean()
    assert torch.allclose(class_balanced_bce(s, y, p), expected)


def test_classes_left_out_do_not_count() -> None:
    s, y, p = torch.randn(4, 3), torch.rand(4, 3), torch.ones(3)
    present = torch.tensor([True, False, True])
    assert torch.equal(
        class_balanced_bce(s, y, p, present), class_balanced_bce(s[:, present], y[:, present], p[present])
    )


def test_weights() -> None:
    labels = torch.tensor([0, 0, 0, 1])
    assert positive_weights(labels, 3, "uniform").tolist() == [2, 2, 2]
    assert positive_weights(labels, 3, "frequency").tolist() == pytest.approx([1 / 3, 3, 2])
    assert positive_weights(labels, 3, "none").tolist() == [1, 1, 1]
    with pytest.raises(ChoiceError, match="balance"):
        positive_weights(labels, 3, "other")  # type: ignore[arg-type]


def test_a_single_logit_has_one_class_against_it() -> None:
    assert positive_weights(torch.tensor([0, 0]), 1, "uniform").tolist() == [1.0]


def test_positives_weigh_as_much_as_the_negatives_of_the_classes_that_count() -> None:
    labels = torch.tensor([2, 2, 5, 5, 7, 7])
    weight = positive_weights(labels, 1000, "uniform", counted=3)
    assert weight.shape == (1000,)
    assert set(weight.tolist()) == {2.0}
    counted = torch.bincount(labels, minlength=1000) > 0
    hot = torch.nn.functional.one_hot(labels, 1000)[:, counted]
    assert torch.equal((weight[counted] * hot).sum(0), (1.0 - hot).sum(0))
    frequency = positive_weights(labels, 1000, "frequency", counted=3)
    assert torch.equal(frequency[counted], weight[counted])
    assert positive_weights(labels[:2], 1000, "uniform", counted=1)[2] == 1
