"""All classes of a pooled linear head: what the maps take beside their own memory."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

import dualcam
from dualcam import Explanation
from dualcam.types import Sign


def peak(call: Callable[[], list[Explanation]], folder: Path) -> tuple[int, list[Explanation]]:
    """Return by how many bytes PyTorch's allocations rose inside a call, and its result."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        found = call()
    profiler.export_chrome_trace(str(folder / "trace.json"))
    events = json.loads((folder / "trace.json").read_text(encoding="utf-8"))["traceEvents"]
    events = sorted((event for event in events if event.get("name") == "[memory]"), key=lambda event: event["ts"])
    totals = [event["args"]["Total Allocated"] for event in events]
    return max(totals) - (totals[0] - events[0]["args"]["Bytes"]), found


@pytest.mark.parametrize("channels", [64, 2048])
@pytest.mark.parametrize("method", ["cam", "grad-cam", "layer-cam"])
@pytest.mark.parametrize("sign", ["signed", "positive"])
def test_a_thousand_classes_take_twice_their_maps_at_most(
    channels: int, method: str, sign: Sign, tmp_path: Path
) -> None:
    layers = (nn.Conv2d(3, channels, 2, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = dualcam.wrap(nn.Sequential(*layers, nn.Linear(channels, 1000)).eval())
    images = torch.randn(16, 3, 14, 14)
    model.explain(images, 0)  # what is made once
    one, _ = peak(lambda: model.explain(images, 0, method=method, sign=sign), tmp_path)
    every, found = peak(lambda: model.explain(images, "all", method=method, sign=sign), tmp_path)
    maps = {
        map_.untyped_storage().data_ptr(): map_.untyped_storage() for each in found for map_ in (each.signed, each.raw)
    }
    assert found[0].raw.shape == (1000, 7, 7)
    assert every - one <= 2 * sum(storage.nbytes() for storage in maps.values())
