"""The adapters: shards, merged states and collections give the figure of one pass."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.functional.classification import binary_average_precision

from dualcam.errors import ChoiceError
from dualcam.interop.torchmetrics import BoxAccuracy, PixelAveragePrecision
from dualcam.metrics.box_curve import box_curve, cuts_of, quantize
from dualcam.metrics.localization import V1_DELTAS, count_hits, max_box_accuracy, max_box_accuracy_over_test
from dualcam.metrics.pixel_ap import THRESHOLDS


@pytest.fixture
def maps() -> Tensor:
    coarse = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(coarse, (24, 24), mode="bilinear").squeeze(1)


@pytest.fixture
def boxes() -> list[Tensor]:
    corners = torch.randint(0, 12, (6, 2, 4), generator=torch.Generator().manual_seed(1)).double()
    corners[..., 2:] += 12
    return [each[: 1 + index % 2] for index, each in enumerate(corners)]


@pytest.fixture
def masks() -> Tensor:
    values = torch.tensor([0, 1, 255], dtype=torch.uint8)
    return values[torch.randint(3, (6, 24, 24), generator=torch.Generator().manual_seed(2))]


def curves(maps: Tensor, boxes: list[Tensor], contour: str) -> NDArray[np.float64]:
    found = []
    for heatmap, truth in zip(maps.numpy(), boxes, strict=True):
        levels = quantize(heatmap)
        curve = box_curve(levels, cuts_of(levels, THRESHOLDS), truth.numpy(), mode="clean")
        found.append(curve.any if contour == "any" else curve.largest)
    return np.stack(found)


def test_box_accuracy_is_that_of_the_functions(maps: Tensor, boxes: list[Tensor]) -> None:
    metric = BoxAccuracy()
    metric.update(maps, boxes)
    hits = count_hits(curves(maps, boxes, "any"))
    assert metric.compute().item() == pytest.approx(max_box_accuracy_over_test(hits))
    assert metric.best() == hits.best().tolist()
    other = BoxAccuracy(V1_DELTAS, contour="largest")
    other.update(maps[:3], boxes[:3])
    fixed = BoxAccuracy(V1_DELTAS, contour="largest", positions=other.best())
    fixed.update(maps[3:], boxes[3:])
    val, test = (count_hits(curves(maps, boxes, "largest")[half], V1_DELTAS) for half in (slice(3), slice(3, None)))
    assert fixed.compute().item() == pytest.approx(max_box_accuracy(test, chosen_on=val))


def test_pixel_precision_on_the_thresholds_is_torchmetrics_own(maps: Tensor, masks: Tensor) -> None:
    """On scores that are multiples of 1/1000; their own ignore_index leaves out as ours does."""
    scores = (maps.double() * 1000).floor() / 1000
    metric = PixelAveragePrecision()
    metric.update(scores, masks)
    theirs = binary_average_precision(scores.flatten(), masks.flatten().long(), ignore_index=255)
    assert metric.compute().item() == pytest.approx(100 * theirs.item(), abs=1e-4)


def test_two_that_are_merged_are_one(maps: Tensor, boxes: list[Tensor], masks: Tensor) -> None:
    drawn, counted = [BoxAccuracy() for _ in range(3)], [PixelAveragePrecision() for _ in range(3)]
    for index, part in enumerate((slice(0, 2), slice(2, 6), slice(0, 6))):
        drawn[index].update(maps[part], boxes[part])
        counted[index].update(maps[part], masks[part])
    for one, two, whole in (drawn, counted):
        one.merge_state(two)
        assert one.compute() == whole.compute()
        whole.reset()
        with pytest.warns(UserWarning, match="before the"):
            assert torch.isnan(whole.compute())


def _rank(rank: int, store: str, maps: Tensor, boxes: list[Tensor], masks: Tensor, out: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    both = BoxAccuracy(), PixelAveragePrecision()
    mine = slice(0, 2) if rank == 0 else slice(2, 6)
    both[0].update(maps[mine], boxes[mine])
    both[1].update(maps[mine], masks[mine])
    figures = [metric.compute().item() for metric in both]
    torch.save(figures, f"{out}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_count_as_one(tmp_path: Path, maps: Tensor, boxes: list[Tensor], masks: Tensor) -> None:
    arguments = (str(tmp_path / "store"), maps, boxes, masks, str(tmp_path))
    mp.spawn(_rank, arguments, nprocs=2)  # type: ignore[no-untyped-call,attr-defined]
    whole = BoxAccuracy(), PixelAveragePrecision()
    whole[0].update(maps, boxes)
    whole[1].update(maps, masks)
    expected = [metric.compute().item() for metric in whole]
    assert [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)] == [expected, expected]


def test_in_a_collection_and_in_half_precision(maps: Tensor, masks: Tensor) -> None:
    collection = MetricCollection([PixelAveragePrecision()])
    collection.update(maps.bfloat16(), masks)
    direct = PixelAveragePrecision()
    direct.update(maps.bfloat16().float(), masks)
    assert collection.compute()["PixelAveragePrecision"] == direct.compute()


def test_what_does_not_fit_is_refused(maps: Tensor, boxes: list[Tensor], masks: Tensor) -> None:
    with pytest.raises(ValueError, match="6 maps"):
        BoxAccuracy().update(maps, boxes[:2])
    with pytest.raises(ValueError, match="one shape"):
        PixelAveragePrecision().update(maps, masks[:, :4])
    with pytest.raises(ChoiceError, match="contour"):
        BoxAccuracy(contour="all")  # type: ignore[arg-type]
