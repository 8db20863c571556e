"""The localization literature's networks have the grids and heads that it states."""

import pytest
import torch

import dualcam
from dualcam.checkpoint import fingerprint
from dualcam.errors import ModelError, WeightsUnavailable
from dualcam.sources import LoadOptions, load

CASES = [(network, cells) for network in ("vgg16", "resnet50", "inception_v3") for cells in (14, 28)]


@pytest.mark.slow
@pytest.mark.parametrize(("network", "cells"), CASES)
def test_grid_head_and_closed_form(network: str, cells: int) -> None:
    model = dualcam.wrap(f"wsol:{network}-{cells}", weights="random")
    assert model.anatomy.grid == (cells, cells)
    assert model.anatomy.channels == (2048 if network == "resnet50" else 1024)
    assert model.softmax_head.kind == ("pooled-conv" if network == "inception_v3" else "pooled-linear")
    assert model.anatomy.nonnegative
    assert model.preprocessing.size == (224, 224)


def test_the_same_name_is_the_same_new_layers() -> None:
    first, second = (load("wsol:inception_v3-14", LoadOptions("random")).module for _ in range(2))
    assert fingerprint(first.get_submodule("top")) == fingerprint(second.get_submodule("top"))


def test_inputs_are_carried_to_what_pretrained_weights_expect() -> None:
    module = load("wsol:inception_v3-28", LoadOptions("random")).module
    images = torch.rand(1, 3, 96, 96)
    plain = module(images)
    module.transform_input = True  # type: ignore[assignment]
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    pixels = images / 2 + 0.5  # what is `images` under mean and deviation 0.5
    torch.testing.assert_close(module((pixels - mean) / std), plain, rtol=1e-3, atol=1e-5)


def test_mistakes_name_the_way_out(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("resnet50", "resnet50-7", "alexnet-14"):
        with pytest.raises(ModelError, match="wsol:resnet50-28"):
            load(f"wsol:{name}", LoadOptions("random"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(WeightsUnavailable):
        load("wsol:vgg16-14", LoadOptions())
