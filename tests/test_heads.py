"""Heads: what is said of a chain holds for what it computes."""

import pytest
import torch
from torch import nn

from dualcam.heads import Head

INPUTS = torch.randn(2, 2, 6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
CHAINS = {
    "linear": (["mean over tokens"], []),
    "linear on the best": (["max over tokens"], []),
    "mean of scores": ([], ["mean over tokens"]),
    "best score": ([], ["max over tokens"]),
    "rectified scores": ([], ["mean over tokens", "relu"]),
}


@pytest.mark.parametrize("name", CHAINS)
def test_a_tail_head_is_affine_where_its_numbers_are(name: str) -> None:
    before, after = CHAINS[name]
    head = Head([*before, nn.Linear(4, 5).double(), *after], "tail", 5)
    one, other = (head.reduce(each) for each in INPUTS)
    between = head.classify(0.3 * one + 0.7 * other)
    is_affine = torch.allclose(between, 0.3 * head.classify(one) + 0.7 * head.classify(other))
    assert head.is_affine == is_affine
    assert is_affine == (name not in ("best score", "rectified scores"))
