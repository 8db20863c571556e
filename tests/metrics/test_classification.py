"""Ranks of labels against a stable sort and torchmetrics."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from torchmetrics.functional.classification import multiclass_accuracy

from dualcam.metrics.classification import ClassCounts, count_classes, in_top, label_ranks

scores = arrays.arrays("float32", st.tuples(st.integers(1, 6), st.integers(2, 7)), elements=st.sampled_from([0, 1, 2]))


@given(scores, st.data())
def test_ranks_are_places_in_a_stable_sort(logits: NDArray[np.float32], data: st.DataObject) -> None:
    labels = data.draw(st.lists(st.integers(0, logits.shape[1] - 1), min_size=len(logits), max_size=len(logits)))
    ranks = label_ranks(logits, labels)
    for row, label, rank in zip(logits.tolist(), labels, ranks, strict=True):
        order = sorted(range(len(row)), key=lambda k: -row[k])
        assert order.index(label) == rank
        assert (np.argmax(row) == label) == (rank == 0)


def test_without_ties_top_k_is_that_of_torchmetrics() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(200, 9, generator=generator), torch.randint(9, (200,), generator=generator)
    for k in (1, 5):
        theirs = multiclass_accuracy(logits, labels, num_classes=9, top_k=k, average="micro")
        assert in_top(logits.numpy(), labels.numpy(), k).mean() == pytest.approx(float(theirs))


@given(st.lists(st.integers(0, 9), max_size=20), st.integers(0, 20))
def test_shards_add_up(ranks: list[int], cut: int) -> None:
    every = np.array(ranks, dtype=np.int64)
    assert count_classes(every[:cut]) + count_classes(every[cut:]) == count_classes(every)


def test_what_can_not_be_ranked_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        label_ranks([[0.0, np.nan]], [0])
    with pytest.raises(ValueError, match=r"\[0, 2\)"):
        label_ranks([[0.0, 1.0]], [2])
    with pytest.raises(ValueError, match="logits"):
        label_ranks([0.0, 1.0], [0])
    assert in_top([[2.0, 1.0]], [1], 5).all()
    assert np.isnan(ClassCounts().top1_accuracy)
    assert np.isnan(ClassCounts().top5_accuracy)
    assert count_classes(np.array([0, 3, 7])).top5_accuracy == pytest.approx(200 / 3)
    assert ClassCounts(4, 1, 2).top1_accuracy == 25
