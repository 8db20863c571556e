"""Ablation-CAM and Smooth Grad-CAM++ against loops, and what they cost."""

import pytest
import torch
from torch import nn

from dualcam.methods.ablation_cam import CHUNK
from dualcam.targets import score_values
from dualcam.tuning import DEFAULTS
from dualcam.types import HeadKind, Score, Sign
from tests.models import CHANNELS, KINDS, head_input, images, maps, wrapped

SCORES: list[Score] = ["logit", "centered", "log-odds", "finer"]


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("kind", KINDS)
def test_ablation_is_what_the_score_loses(kind: HeadKind, score: Score) -> None:
    model = wrapped(kind, nn.SiLU).eval()
    batch = images(3)
    found = maps(model.explain(batch, [1, 3], method="ablation-cam", score=score, sign="signed"))
    with torch.no_grad():
        activations = model.activations(batch)
        whole = score_values(model.sigmoid_head(head_input(model, activations)), score, DEFAULTS)
        for position, k in enumerate((1, 3)):
            expected = torch.zeros(3, *activations.shape[2:], dtype=torch.float64)
            for channel in range(CHANNELS):
                ablated = activations.clone()
                ablated[:, channel] = 0
                without = score_values(model.sigmoid_head(head_input(model, ablated)), score, DEFAULTS)
                expected += (whole - without)[:, k, None, None] * activations[:, channel]
            torch.testing.assert_close(found[:, position], expected, rtol=1e-8, atol=1e-12)


def test_ablation_of_a_linear_head_runs_no_head_and_others_run_it_in_batches() -> None:
    for kind, expected in (("pooled-linear", 0), ("mlp", 3 * (1 + CHANNELS))):
        model = wrapped(kind)  # type: ignore[arg-type]
        sizes: list[int] = []
        handle = model.sigmoid_head.register_forward_hook(
            lambda _module, inputs, _out, to=sizes: to.append(len(inputs[0]))
        )
        model.explain(images(3), [0, 1], method="grad-cam")
        usual = len(sizes)
        model.explain(images(3), [0, 1], method="ablation-cam")
        handle.remove()
        assert sum(sizes[2 * usual :]) == expected
        assert max(sizes, default=0) <= CHUNK


@pytest.mark.parametrize("kind", ["norm-linear", "mlp"])
def test_one_clean_image_is_grad_cam_plus_plus(kind: HeadKind) -> None:
    model = wrapped(kind)
    signs: list[Sign] = ["positive", "signed", "negative"]
    for sign in signs:
        smooth = maps(
            model.explain(
                images(),
                "all",
                method="smooth-grad-cam++",
                sign=sign,
                tuning={"samples": 1, "noise": 0.0},
            )
        )
        plain = maps(model.explain(images(), "all", method="grad-cam++", sign=sign))
        torch.testing.assert_close(smooth, plain, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("kind", ["norm-linear", "mlp", "tail"])
def test_smoothing_averages_powers_of_noisy_gradients(kind: HeadKind) -> None:
    model = wrapped(kind).eval()
    batch = images(2)
    tuning = {"samples": 3, "noise": 0.2, "seed": 5}
    found = maps(model.explain(batch, [1], method="smooth-grad-cam++", tuning=tuning))[:, 0]
    generator = torch.Generator().manual_seed(5)
    draws = [torch.randn(batch.shape[1:], generator=generator, dtype=torch.float64) for _ in range(3)]
    for image in range(2):
        spread = 0.2 * (batch[image].max() - batch[image].min())
        gradients = []
        for draw in draws:
            leaf = model.activations((batch[image] + spread * draw).unsqueeze(0)).detach().requires_grad_()
            gradients.append(torch.autograd.grad(model.sigmoid_head(head_input(model, leaf))[0, 1], leaf)[0][0])
        first, second, third = (sum(g**power for g in gradients) / 3 for power in (1, 2, 3))
        clean = model.activations(batch[image : image + 1]).detach()[0]
        expected = torch.zeros(clean.shape[1:], dtype=torch.float64)
        for i in range(CHANNELS):
            bar = 2 * second[i] + clean[i].sum() * third[i]  # type: ignore[index]
            weight = (second[i] / bar * first[i].clamp(min=0)).nan_to_num().sum()  # type: ignore[index]
            expected += weight.clamp(min=0) * clean[i]
        torch.testing.assert_close(found[image], expected, rtol=1e-8, atol=1e-14)


def test_smoothing_costs_its_samples_and_none_on_a_linear_head() -> None:
    for kind, score, expected in (("mlp", "logit", 4), ("pooled-linear", "log-odds", 4), ("pooled-linear", "logit", 0)):
        model = wrapped(kind)  # type: ignore[arg-type]
        count: list[int] = []
        handle = model.classifier.get_submodule(model.anatomy.layer).register_forward_hook(
            lambda *_, to=count: to.append(1)
        )
        model.explain(images(), [0, 2], method="smooth-grad-cam++", score=score, tuning={"samples": 4})  # type: ignore[arg-type]
        handle.remove()
        assert len(count) == 1 + expected
