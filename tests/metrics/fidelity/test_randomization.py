"""The randomization check, on heads of several kinds."""

import numpy as np
import pytest
import torch
from torch import nn

from dualcam import methods
from dualcam.evidence import gather_evidence
from dualcam.heads import Head
from dualcam.heatmap import combine, normalize, weight_parts
from dualcam.metrics import fidelity
from dualcam.metrics.fidelity import Measured
from dualcam.metrics.fidelity.randomization import (
    randomized_head,
    randomized_heads,
    similarity_after_randomization,
)
from dualcam.metrics.fidelity_settings import FidelitySettings, Surgery
from dualcam.metrics.order import average_ranks
from dualcam.types import Tapped

KINDS = ["linear", "mlp"]


def make_head(kind: str) -> Head:
    torch.manual_seed(4)
    if kind == "linear":
        return Head.pooled_linear(nn.Linear(6, 5))
    return Head(["flatten", nn.Linear(96, 8), nn.ReLU(), nn.Linear(8, 5)], "mlp", 5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("surgery", ["shuffle", "redraw"])
def test_the_head_itself_stays(kind: str, surgery: Surgery) -> None:
    head = make_head(kind)
    before = {name: value.clone() for name, value in head.state_dict().items()}
    head.train()
    random_state = torch.get_rng_state()
    copies = randomized_heads(head, FidelitySettings(head_surgery=surgery, head_draws=3, seed=7))
    assert torch.equal(random_state, torch.get_rng_state())
    assert head.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in head.parameters())
    for name, value in head.state_dict().items():
        assert torch.equal(value, before[name])
    assert len(copies) == 3
    for copy in copies:
        assert (copy.kind, copy.classes, copy.plan) == (head.kind, head.classes, head.plan)
        for ours, theirs in zip(copy.parameters(), head.parameters(), strict=True):
            assert not torch.equal(ours, theirs)
            assert ours.data_ptr() != theirs.data_ptr()
            if surgery == "shuffle":
                assert torch.equal(ours.flatten().sort().values, theirs.flatten().sort().values)
    again = randomized_head(head, surgery, 8)
    first, second = (next(each.parameters()) for each in (again, copies[1]))
    assert torch.equal(first, second)
    assert not torch.equal(first, next(copies[0].parameters()))


def test_a_redrawn_head_keeps_mean_and_deviation() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(300, 200)
    with torch.no_grad():
        linear.weight.mul_(0.3).add_(0.8)
    redrawn = next(randomized_head(Head.pooled_linear(linear), "redraw", 1).parameters()).detach()
    assert float(redrawn.mean()) == pytest.approx(float(linear.weight.detach().mean()), abs=1e-3)
    assert float(redrawn.std()) == pytest.approx(float(linear.weight.detach().std()), rel=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_maps_of_the_class_change(kind: str) -> None:
    """Of a method that reads the head; a map that does not (here: the mean activation) fails the check."""
    head = make_head(kind)
    generator = torch.Generator().manual_seed(2)
    activations = torch.rand(1, 6, 4, 4, generator=generator)
    tapped = Tapped.of(activations)
    settings = FidelitySettings(head_draws=12)

    def draw(each: Head) -> np.ndarray:
        evidence = gather_evidence(each, tapped, torch.tensor([[2]]), "logit")
        parts = weight_parts(methods.get("grad-cam"), evidence)
        signed = combine(parts, evidence.activations, "signed", clamp_weights=True)
        return normalize(signed[0, 0].detach().numpy(), "minmax")

    heat = draw(head)
    redrawn = np.stack([draw(each) for each in randomized_heads(head, settings)])
    metric = fidelity.get("randomization")
    assert metric.heads is randomized_heads
    assert metric.by_rank
    ranks = np.stack([average_ranks(each) for each in (heat, *redrawn)])
    found = metric.score(Measured(heat, ranks=ranks), settings)
    assert 0 <= found < 0.6
    assert found == similarity_after_randomization(heat, redrawn)
    blind = normalize(activations[0].mean(0).numpy(), "minmax")
    assert metric.score(Measured(blind, ranks=np.stack([average_ranks(blind)] * 13)), settings) == pytest.approx(1)


def test_similarity_of_degenerate_maps() -> None:
    heat = np.arange(12.0).reshape(3, 4)
    flat = np.zeros((3, 4))
    assert similarity_after_randomization(heat, heat[None]) == pytest.approx(1)
    assert similarity_after_randomization(heat, -heat[None]) == pytest.approx(1)
    assert similarity_after_randomization(heat, flat[None]) == 0
    assert similarity_after_randomization(flat, heat[None]) == 0
    assert similarity_after_randomization(flat, flat[None] + 1) == 1
    assert similarity_after_randomization(heat, np.stack([heat**3, flat])) == pytest.approx(0.5)
