"""Features and steps that several processes share, seen from one: parts that make the whole."""

from pathlib import Path

import numpy as np
import pytest
import torch

import dualcam
from dualcam.data.views import PhotoViews, ViewRecipe
from dualcam.datasets import open_dataset
from dualcam.training.cache import build_cache, cache_path
from dualcam.training.passes import Passes
from dualcam.training.processes import ALONE, Processes
from dualcam.training.settings import TrainingSettings
from dualcam.training.shards import _put_together, bounds
from dualcam.training.stream import FeatureStream
from tests.models import PREPROCESSING, tiny


@pytest.mark.parametrize("photos", [1, 7, 30, 64])
@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_bounds_are_whole_groups_that_cover_all_photos(photos: int, world: int) -> None:
    found = bounds(photos, 8, Processes(0, world))
    assert [place for part in found for place in part] == list(range(photos))
    assert all(part.start % 8 == 0 for part in found if len(part))
    assert max(map(len, found)) <= 8 * (photos // 8 // world + 1)


def test_parts_put_together_are_the_cache_of_one_process(photos: Path, tmp_path: Path) -> None:
    (photos / "2" / "broken.png").write_bytes(b"not a picture")
    model = dualcam.wrap(tiny("pooled-linear", dtype=torch.float32), preprocessing=PREPROCESSING)
    views = PhotoViews(open_dataset(photos), PREPROCESSING, ViewRecipe("crop", 4, 1.0, 3))
    whole = build_cache(model, model.softmax_head, views, tmp_path / "whole")
    parts = []
    for place in bounds(len(views), 8, Processes(0, 3)):
        part = build_cache(model, model.softmax_head, views.part(place), tmp_path / "parts")
        parts.append((place, part.path))
    final = cache_path(model, model.softmax_head, views, tmp_path / "together")
    _put_together(parts, len(views), final)
    together = build_cache(model, model.softmax_head, views, tmp_path / "together")
    assert not together.was_built, "it is found under the name that one process gives it"
    usable = np.repeat(whole.usable, 4)
    assert np.array_equal(whole.features[usable], together.features[usable])
    assert whole.usable.tolist() == together.usable.tolist() and whole.broken == together.broken
    assert whole.path.name == together.path.name


def test_parts_of_a_batch_are_the_batch(photos: Path) -> None:
    (photos / "0" / "broken.png").write_bytes(b"not a picture")
    model = dualcam.wrap(tiny("pooled-linear", dtype=torch.float32), preprocessing=PREPROCESSING)
    views = PhotoViews(open_dataset(photos), PREPROCESSING, ViewRecipe("crop", 2, 1.0, 3))
    order = np.random.default_rng(0).permutation(2 * len(views))

    passes = Passes(model, model.softmax_head, TrainingSettings(), training=True)

    def batches(processes: Processes) -> list[tuple[list[int], torch.Tensor]]:
        stream = FeatureStream(passes, views, 0, processes)
        found = [(rows.tolist(), features) for rows, features in stream.batches(order, 5, 1)]
        assert set(stream.broken) <= {"0/broken.png"}
        return found

    whole = batches(ALONE)
    parts = [batches(Processes(rank, 3)) for rank in range(3)]
    for step, (rows, features) in enumerate(whole):
        dealt = {row: value for part in parts for row, value in zip(*part[step], strict=True)}
        assert sorted(dealt) == rows
        for row, value in zip(rows, features, strict=True):
            assert torch.allclose(value, dealt[row], atol=1e-6)
