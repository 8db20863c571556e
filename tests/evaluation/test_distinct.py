"""Tensors told apart by their bits."""

import pytest
import torch
from torch import Tensor

from dualcam.evaluation.distinct import SAMPLE, Distinct


@pytest.mark.parametrize("kind", [torch.float32, torch.int32, torch.bool, torch.float64])
@pytest.mark.parametrize("size", [0, 1, SAMPLE, 5000])
def test_equal_bits_have_one_value(kind: torch.dtype, size: int) -> None:
    """Also where tensors differ in a single element, wherever it is; most of 5000 are not in the sample."""
    generator = torch.Generator().manual_seed(1)
    first = torch.randint(0, 2, (size,), generator=generator).to(kind)
    tensors = [first]
    for place in range(0, size, max(1, size // 50)):
        tensors.append(first.clone())
        tensors[-1][place] = not first[place]
    found = Distinct[int]()
    numbers = [found.find(each, lambda: len(found.values)) for each in tensors]
    assert numbers == list(range(len(tensors))) == found.values
    assert [found.find(each.clone(), lambda: -1) for each in tensors] == numbers


def test_zeros_of_two_signs_and_no_numbers() -> None:
    found = Distinct[str]()
    assert found.find(torch.tensor([0.0, float("nan")]), lambda: "plus") == "plus"
    assert found.find(torch.tensor([-0.0, float("nan")]), lambda: "minus") == "minus"
    assert found.find(torch.tensor([0.0, float("nan")]), lambda: "another") == "plus"


def test_earlier_tensors_are_made_again_only_where_the_sample_agrees() -> None:
    made = 0

    def again() -> Tensor:
        nonlocal made
        made += 1
        return torch.zeros(100_000)

    found = Distinct[str]()
    reused = torch.zeros(100_000)
    assert found.find(reused, lambda: "zeros", again) == "zeros"
    reused.fill_(1)  # it is not kept
    assert found.find(reused, lambda: "ones") == "ones"
    assert made == 0
    assert found.find(torch.zeros(100_000), lambda: "new") == "zeros"
    assert made == 1
