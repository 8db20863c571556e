"""The cache of features: what names it, what it holds, how it survives."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import dualcam
from dualcam.data.views import PhotoViews, SingleViews, ViewRecipe
from dualcam.datasets import open_dataset
from dualcam.errors import DataError
from dualcam.model import DualBranch
from dualcam.training import cache as caching
from dualcam.training.cache import FeatureCache, build_cache, cache_key
from tests.models import PREPROCESSING, tiny

RECIPE = ViewRecipe("resized-crop", 3, 0.25, 0)


@pytest.fixture
def model() -> DualBranch:
    return dualcam.wrap(tiny("pooled-linear", dtype=torch.float32), preprocessing=PREPROCESSING)


def build(model: DualBranch, photos: Path, home: Path, recipe: ViewRecipe = RECIPE, workers: int = 0) -> FeatureCache:
    views = PhotoViews(open_dataset(photos), model.preprocessing, recipe)
    return build_cache(model, model.softmax_head, views, home, workers=workers)


def test_holds_the_mean_activations_of_each_view(model: DualBranch, photos: Path, tmp_path: Path) -> None:
    built = build(model, photos, tmp_path / "cache")
    views = PhotoViews(open_dataset(photos), model.preprocessing, RECIPE)
    assert isinstance(built.features, np.memmap)
    assert built.features.shape == (30 * 3, 8)
    for photo in (0, 17):
        _, tensor = views[photo]
        assert isinstance(tensor, torch.Tensor)
        with torch.no_grad():
            expected = model.activations(tensor).mean((2, 3))
        assert np.allclose(built.features[photo * 3 : photo * 3 + 3], expected.numpy(), atol=1e-6)


def test_is_found_again_and_not_computed_again(
    model: DualBranch, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert build(model, photos, tmp_path / "cache").was_built
    monkeypatch.setattr(caching, "extract", None)
    assert not build(model, photos, tmp_path / "cache").was_built


def test_key_changes_with_weights_photos_and_transform(model: DualBranch, photos: Path) -> None:
    def key(recipe: ViewRecipe = RECIPE) -> str:
        return cache_key(model, PhotoViews(open_dataset(photos), model.preprocessing, recipe), "mean")

    keys = [key(), key(replace(RECIPE, seed=1)), key(replace(RECIPE, count=2)), key(replace(RECIPE, min_scale=0.5))]
    preprocessing = model.preprocessing
    model.preprocessing = replace(preprocessing, std=(1.0, 1.0, 1.0))
    keys.append(key())
    model.preprocessing = replace(preprocessing, origin="elsewhere")
    assert key() == keys[0], "where the values came from does not matter"
    photo = photos / "0" / "00.png"
    os.utime(photo, ns=(1, 1))
    keys.append(key())
    photo.unlink()
    keys.append(key())
    with torch.no_grad():
        next(model.classifier.buffers()).add_(1)
    keys.append(key())
    assert len(set(keys)) == len(keys)


def test_a_killed_build_goes_on_and_ends_with_the_same_bytes(
    model: DualBranch, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caching, "ROWS_PER_FORWARD", 6)
    monkeypatch.setattr(caching, "FLUSH_EVERY", 2)
    whole = build(model, photos, tmp_path / "whole")
    real, calls = caching.extract, []

    def dies(*arguments: object) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(caching, "extract", dies)
    with pytest.raises(KeyboardInterrupt):
        build(model, photos, tmp_path / "killed")

    def counts(*arguments: object) -> torch.Tensor:
        calls.append(1)
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(caching, "extract", counts)
    calls.clear()
    resumed = build(model, photos, tmp_path / "killed")
    assert 0 < len(calls) < 15, "batches before the last flush are not computed again"
    assert resumed.features.tobytes() == whole.features.tobytes()


def test_two_builders_of_one_cache_do_not_mix(model: DualBranch, photos: Path, tmp_path: Path) -> None:
    views = PhotoViews(open_dataset(photos), model.preprocessing, RECIPE)
    key = cache_key(model, views, "mean")
    (tmp_path / f"{key}.part").mkdir()
    with caching.locked(tmp_path / f"{key}.part"), pytest.raises(DataError, match="another run is computing"):
        build(model, photos, tmp_path)


def test_no_readable_photo_is_an_error(model: DualBranch, tmp_path: Path) -> None:
    (tmp_path / "photos" / "a").mkdir(parents=True)
    (tmp_path / "photos" / "a" / "x.png").write_bytes(b"")
    with pytest.raises(DataError, match="none of the 1 photos can be read"):
        build(model, tmp_path / "photos", tmp_path / "cache")


@pytest.mark.slow
def test_workers_make_the_same_views(model: DualBranch, photos: Path, tmp_path: Path) -> None:
    alone, many = build(model, photos, tmp_path / "one"), build(model, photos, tmp_path / "many", workers=2)
    assert alone.features.tobytes() == many.features.tobytes()


def test_a_disk_that_is_too_small_is_told_before_it_is_full(
    model: DualBranch, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = shutil.disk_usage(tmp_path)._replace(free=2000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: room)
    with pytest.raises(DataError, match=r"--cache-dir.*--views.*--no-cache"):
        build(model, photos, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*/features.npy"))
    room = room._replace(free=10_000_000)
    assert build(model, photos, tmp_path / "cache").was_built


def test_without_a_cache_one_view_is_a_new_crop_in_every_epoch(model: DualBranch, photos: Path) -> None:
    views = PhotoViews(open_dataset(photos), model.preprocessing, replace(RECIPE, count=1))
    whole = views[3][1]
    drawn = [SingleViews(views, [3], epoch)[0][1] for epoch in (0, 0, 1)]
    assert all(isinstance(each, torch.Tensor) for each in (whole, *drawn))
    first, again, later = drawn
    assert torch.equal(first, again)  # type: ignore[arg-type]
    assert not torch.equal(first, later)  # type: ignore[arg-type]
    assert not torch.equal(first, whole[0])  # type: ignore[arg-type]
    several = PhotoViews(open_dataset(photos), model.preprocessing, RECIPE)
    assert torch.equal(SingleViews(several, [9], 1)[0][1], whole[0])  # type: ignore[arg-type]
