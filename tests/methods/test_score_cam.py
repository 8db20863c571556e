"""Score-CAM and its kin against loops over channels, what they cost, and which channels `top_k` keeps."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from dualcam import DualBranch
from dualcam.errors import ChoiceError
from dualcam.heatmap import weight_parts
from dualcam.methods import get, score_cam
from dualcam.methods.score_cam import unit_masks, varying_channels
from dualcam.tuning import Tuning
from dualcam.types import Branch, Evidence, HeadKind, Probes
from tests.models import CHANNELS, KINDS, SIZE, images, maps, wrapped

BRANCHES: list[Branch] = ["softmax", "sigmoid"]


def probability(model: DualBranch, branch: Branch, image: Tensor, k: int) -> Tensor:
    """Return p_k of one image [3, H, W]."""
    with torch.no_grad():
        logits = model(image.unsqueeze(0))
    chosen: Tensor = logits.sigmoid if branch == "sigmoid" else logits.softmax
    return chosen[0].softmax(0)[k]


def naive(model: DualBranch, branch: Branch, image: Tensor, k: int, changes: Any) -> Tensor:
    """Return the signed map [h, w]: one channel, one change of its masked image at a time."""
    with torch.no_grad():
        activations = model.activations(image.unsqueeze(0))[0]
    empty = probability(model, branch, torch.zeros_like(image), k)
    total = torch.zeros(activations.shape[1:], dtype=torch.float64)
    for channel in activations:
        large = functional.interpolate(channel[None, None], SIZE, mode="bilinear")[0, 0]
        if large.max() == large.min():
            continue
        mask = (large - large.min()) / (large.max() - large.min())
        scores = [probability(model, branch, changed, k) for changed in changes(image, mask)]
        total += (sum(scores) / len(scores) - empty) * channel
    return total


def as_noise(tuning: Tuning) -> Any:
    def changes(image: Tensor, mask: Tensor) -> list[Tensor]:
        generator = torch.Generator().manual_seed(tuning.seed)
        draws = [torch.randn(SIZE, generator=generator, dtype=torch.float64) for _ in range(tuning.samples or 0)]
        return [image * (mask + (tuning.noise or 0) * draw) for draw in draws]

    return changes


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("activation", [nn.ReLU, nn.SiLU])
@pytest.mark.parametrize("kind", KINDS)
def test_maps_are_loops_over_channels(kind: HeadKind, activation: type[nn.Module], branch: Branch) -> None:
    model = wrapped(kind, activation).eval()
    batch = 3 * images(2)
    ways: list[tuple[str, Tuning, Any]] = [
        ("score-cam", Tuning(), lambda image, mask: [image * mask]),
        ("is-cam", Tuning(samples=3), lambda image, mask: [image * mask * step / 3 for step in (1, 2, 3)]),
        ("ss-cam", Tuning(samples=2, noise=0.5, seed=4), as_noise(Tuning(samples=2, noise=0.5, seed=4))),
    ]
    for method, tuning, changes in ways:
        found = maps(model.explain(batch, [1, 3], method=method, branch=branch, sign="signed", tuning=tuning))
        for position, k in enumerate((1, 3)):
            for image in range(2):
                expected = naive(model, branch, batch[image], k, changes)
                assert expected.abs().max() > 1e-6
                torch.testing.assert_close(found[image, position], expected, rtol=1e-7, atol=1e-12)


def test_another_score_takes_the_place_of_the_probability() -> None:
    model = wrapped("mlp").eval()
    batch = images(1)
    found = maps(model.explain(batch, [1], method="score-cam", score="centered", sign="signed"))[0, 0]
    with torch.no_grad():
        activations = model.activations(batch)
        masks = unit_masks(activations, SIZE)[0]
        scores = torch.stack([model(batch * mask).sigmoid[0] for mask in masks])
        empty = model(torch.zeros_like(batch)).sigmoid[0]
    gain = (scores - scores.mean(1, keepdim=True))[:, 1] - (empty - empty.mean())[1]
    gain = gain * (masks.amax((1, 2)) > 0)
    torch.testing.assert_close(found, (gain[:, None, None] * activations[0]).sum(0))


@pytest.mark.parametrize(("method", "per_channel"), [("score-cam", 1), ("is-cam", 3), ("ss-cam", 3)])
@pytest.mark.parametrize("top_k", [None, 5])
@pytest.mark.parametrize(("kept", "most"), [(False, 6), (True, 16)])
def test_a_channel_costs_a_forward(
    method: str, per_channel: int, top_k: int | None, kept: bool, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score_cam, "is_freed_memory_kept", lambda: kept)
    model = wrapped("pooled-linear")
    seen: list[int] = []
    handle = model.classifier.register_forward_hook(lambda _module, inputs, _output: seen.append(len(inputs[0])))
    tuning = {"top_k": top_k} | ({} if per_channel == 1 else {"samples": per_channel})
    model.explain(images(2), [0, 1, 2], method=method, tuning=tuning)
    handle.remove()
    assert seen[0] == 2  # the one forward of any explanation, then the empty images
    assert sum(seen[1:]) == 2 * (1 + per_channel * (top_k or CHANNELS))
    assert max(seen) <= most


def test_the_channels_that_vary_most_are_kept() -> None:
    model = wrapped("pooled-linear")
    with torch.no_grad():
        activations = model.activations(images(2))
    kept = varying_channels(activations, 3)
    for image, chosen in zip(activations.numpy(), kept.tolist(), strict=True):
        assert set(chosen) == set(np.argsort(image.reshape(CHANNELS, -1).std(1))[-3:].tolist())
    probes = Probes(images(2), False, Tuning(top_k=3), image_scores=lambda changed: changed.flatten(2).sum(2, True))
    evidence = Evidence(activations.unsqueeze(1), activations.unsqueeze(1), None, probes)
    (weights,) = weight_parts(get("score-cam"), evidence)
    nonzero = weights[:, 0, :, 0, 0].nonzero()
    assert {(int(image), int(channel)) for image, channel in nonzero} <= {
        (image, channel) for image, chosen in enumerate(kept.tolist()) for channel in chosen
    }
    every = maps(model.explain(images(), method="score-cam"))
    torch.testing.assert_close(maps(model.explain(images(), method="score-cam", tuning={"top_k": 99})), every)
    assert not torch.allclose(maps(model.explain(images(), method="score-cam", tuning={"top_k": 2})), every)


def test_a_constant_channel_has_no_mask_and_no_weight() -> None:
    channels = torch.stack((torch.full((2, 3), 4.0), torch.arange(6.0).view(2, 3))).unsqueeze(0)
    masks = unit_masks(channels, (4, 6))
    assert not masks[0, 0].any()
    assert masks[0, 1].min() == 0
    assert masks[0, 1].max() == 1
    probes = Probes(
        torch.ones(1, 3, 4, 6), False, Tuning(), image_scores=lambda changed: 1 + 0 * changed[:, :, :1, 0, 0]
    )
    evidence = Evidence(channels.unsqueeze(1), channels.unsqueeze(1), None, probes)
    assert not get("ss-cam").weights(evidence)[0, 0, 0].any()


def test_the_seed_decides_and_nothing_else_does() -> None:
    model = wrapped("mlp")
    one, again, other = (
        maps(model.explain(images(), method="ss-cam", tuning={"samples": 2, "seed": seed})) for seed in (1, 1, 2)
    )
    assert torch.equal(one, again)
    assert not torch.allclose(one, other)


@pytest.mark.parametrize(
    ("method", "tuning", "message"),
    [
        ("grad-cam", {"top_k": 4}, "top_k=4 is not read by method 'grad-cam'"),
        ("score-cam", {"samples": 4}, "samples=4 is not read by .*they read top_k"),
        ("score-cam", {"top_k": 0}, "top_k must be at least 1; got 0"),
        ("ss-cam", {"noise": -1.0}, "noise must lie in"),
        ("is-cam", {"samples": 0}, "samples must be at least 1"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(method: str, tuning: dict[str, Any], message: str) -> None:
    with pytest.raises(ChoiceError, match=message):
        wrapped("mlp").explain(images(), method=method, tuning=tuning)
