"""Features of all views, computed once by the frozen backbone and kept on disk.

``features.npy`` [photos * V, ...] is memory-mapped, so it may be larger than memory. A cache is named by a digest of
everything that decides its content: classifier weights, tapped layer, preprocessing, views, photos. It is built in
``<key>.part``, goes on where it stopped after a kill, and is renamed when it is complete.
"""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dualcam.checkpoint import fingerprint
from dualcam.data.views import PhotoViews
from dualcam.errors import DataError
from dualcam.files import write_json
from dualcam.guards import evaluating
from dualcam.heads import Head
from dualcam.model import DualBranch

CACHE_FORMAT = 1
ROWS_PER_FORWARD = 32
CPU_ROWS = 4
"""Images a forward on a CPU: activations of more do not fit its caches, and each image takes longer."""
FLUSH_EVERY = 16

Advance = Callable[[int], None]


def default_cache_dir() -> Path:
    """Return ``$DUALCAM_CACHE``, or ``dualcam/features`` in the user's cache folder."""
    given = os.environ.get("DUALCAM_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dualcam" / "features"


@dataclass(frozen=True)
class FeatureCache:
    """Features of every view of every photo.

    ``features`` [photos * V, ...] float32, the row of a photo's view v is photo * V + v; ``usable`` [photos] is False
    where a photo could not be read, and ``broken`` says why.
    """

    path: Path
    features: NDArray[np.float32]
    usable: NDArray[np.bool_]
    broken: dict[str, str]
    views: int
    was_built: bool

    @property
    def megabytes(self) -> float:
        """Size on disk."""
        return self.features.nbytes / 1e6

    def batches(
        self, order: NDArray[np.int64], batch_size: int, epoch: int
    ) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
        """Yield (rows, features) in ``order``; each batch is read in ascending order, which disks prefer."""
        del epoch  # a cache holds the same views in every epoch
        for start in range(0, len(order), batch_size):
            rows = np.sort(order[start : start + batch_size])
            yield rows, torch.from_numpy(self.features[rows])


def cache_key(model: DualBranch, photos: PhotoViews, reduce: str) -> str:
    """Return the digest that names the cache of these features."""
    recipe = photos.recipe
    content = {
        "format": CACHE_FORMAT,
        "backbone": fingerprint(model.classifier),
        "layer": [model.anatomy.layer, model.anatomy.layout, model.anatomy.post],
        "reduce": reduce,
        "preprocessing": {**photos.preprocessing.to_json(), "origin": ""},
        "views": [recipe.augment, recipe.count, recipe.min_scale, recipe.seed],
        "photos": photos.dataset.digest(),
        **({"first": photos.first} if photos.first else {}),
        "device": model.device.type,
        "dtype": str(model.dtype),
    }
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()


def cache_path(model: DualBranch, head: Head, photos: PhotoViews, directory: Path) -> Path:
    """Return where in ``directory`` the features of ``photos`` for ``head`` are kept."""
    reduce = "mean" if head.is_linear else head.describe_steps()
    if head.reads_features:
        reduce = f"{reduce} of {', '.join(model.anatomy.readers)}"
    return directory / cache_key(model, photos, reduce)


def photos_per_forward(photos: PhotoViews) -> int:
    """Return how many photos go through the model together."""
    return max(1, ROWS_PER_FORWARD // photos.recipe.count)


def build_cache(
    model: DualBranch,
    head: Head,
    photos: PhotoViews,
    directory: Path,
    *,
    workers: int = 0,
    advance: Advance | None = None,
) -> FeatureCache:
    """Open the cache of what ``head`` is trained on, `DualBranch.training_inputs`, for all views.

    What is missing of it is built; ``advance`` is told the number of photos that are done. Raises `DataError` if no
    photo can be read.
    """
    final = cache_path(model, head, photos, directory)
    partial = final.with_name(f"{final.name}.part")
    if (final / "meta.json").is_file():
        if advance:
            advance(len(photos))
        return open_cache(final, was_built=False)
    partial.mkdir(parents=True, exist_ok=True)
    with locked(partial):
        _fill(model, head, photos, partial, workers, advance or (lambda count: None))
        partial.rename(final)
    return open_cache(final, was_built=True)


def extract(model: DualBranch, head: Head, images: Tensor) -> Tensor:
    """Return the features [B, ...] of preprocessed ``images`` on the CPU, in float32; eval mode, no gradients."""
    at_once = CPU_ROWS if model.device.type == "cpu" else len(images)
    with torch.no_grad(), evaluating(model, head):
        parts = [
            model.training_inputs(head, part.to(model.device, model.dtype)).float().cpu()
            for part in torch.split(images, at_once)
        ]
    return torch.cat(parts)


def photo_loader(photos: Any, batches: Iterable[list[int]], workers: int) -> Iterator[list[tuple[int, Tensor | str]]]:
    """Yield lists of (position, views or error text), a list for each of ``batches`` of positions.

    They are decoded by ``workers`` processes (0: in this one).
    """
    loader = torch.utils.data.DataLoader(
        photos,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=list,
        prefetch_factor=2 if workers else None,
        generator=torch.Generator(),  # else it draws from the global one
    )
    return iter(loader)


def _fill(model: DualBranch, head: Head, photos: PhotoViews, folder: Path, workers: int, advance: Advance) -> None:
    """Compute the rows that ``progress.json`` does not count yet, in batches that start at fixed photos."""
    views, total = photos.recipe.count, len(photos)
    batch = photos_per_forward(photos)
    progress: dict[str, Any] = {"done": 0, "broken": {}, "shape": None}
    if (folder / "progress.json").is_file():
        progress = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
    features = _map_features(folder, progress, total * views) if progress["shape"] else None
    advance(progress["done"])
    batches = [list(range(start, min(start + batch, total))) for start in range(progress["done"], total, batch)]
    for number, items in enumerate(photo_loader(photos, batches, workers), start=1):
        good = [(position, views_) for position, views_ in items if isinstance(views_, Tensor)]
        progress["broken"].update({str(position): text for position, text in items if isinstance(text, str)})
        if good:
            values = extract(model, head, torch.cat([tensor for _, tensor in good])).numpy()
            if features is None:
                progress["shape"] = list(values.shape[1:])
                features = _map_features(folder, progress, total * views)
            rows = np.concatenate([np.arange(position * views, (position + 1) * views) for position, _ in good])
            features[rows] = values
        progress["done"] += len(items)
        advance(len(items))
        if number % FLUSH_EVERY == 0 and features is not None:
            features.flush()
            write_json(folder / "progress.json", progress)
    if features is None:
        raise DataError(f"none of the {total} photos can be read; the first: {next(iter(progress['broken'].values()))}")
    features.flush()
    broken = {photos.dataset.paths[int(position)]: text for position, text in progress["broken"].items()}
    positions = [int(position) for position in progress["broken"]]
    write_json(folder / "meta.json", {"views": views, "photos": total, "positions": positions, "broken": broken})
    (folder / "progress.json").unlink(missing_ok=True)


def _map_features(folder: Path, progress: dict[str, Any], rows: int) -> np.memmap[Any, np.dtype[np.float32]]:
    path = folder / "features.npy"
    shape = (rows, *progress["shape"])
    if progress["done"] and path.is_file():
        return np.lib.format.open_memmap(path, mode="r+", dtype=np.float32, shape=shape)
    path.unlink(missing_ok=True)
    check_room(folder, 4 * math.prod(shape))
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)


def check_room(folder: Path, needed: int) -> None:
    """Raise `DataError` where the disk of ``folder`` has less than ``needed`` bytes: a map of a full disk is fatal."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"the features take {needed / 1e9:.1f} GB, and {folder.parent} has {free / 1e9:.1f} GB; choose another "
            "disk (--cache-dir, or DUALCAM_CACHE), fewer --views, or --no-cache"
        )


def open_cache(folder: Path, *, was_built: bool) -> FeatureCache:
    """Return the finished cache in ``folder``."""
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    features = np.load(folder / "features.npy", mmap_mode="r", allow_pickle=False)
    usable = np.ones(meta["photos"], dtype=bool)
    usable[meta["positions"]] = False
    return FeatureCache(folder, features, usable, meta["broken"], meta["views"], was_built)


class locked:  # noqa: N801  - used as a function
    """Hold a lock file, so that two runs do not fill the same cache; a lock dies with its process."""

    def __init__(self, folder: Path) -> None:
        self.path = folder.with_suffix(".lock")

    def __enter__(self) -> None:
        self.stream = self.path.open("w")
        try:
            import fcntl
        except ImportError:  # not on Windows
            return
        try:
            fcntl.flock(self.stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.stream.close()
            raise DataError(
                f"another run is computing these features ({self.path}); wait for it, or give another cache folder"
            ) from error

    def __exit__(self, *_: object) -> None:
        self.stream.close()
        self.path.unlink(missing_ok=True)
