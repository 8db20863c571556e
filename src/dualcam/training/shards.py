"""Features by many processes: each computes those of its own photos, the first puts the files together."""

import math
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np

from dualcam.data.views import PhotoViews
from dualcam.errors import DataError
from dualcam.files import write_json
from dualcam.heads import Head
from dualcam.model import DualBranch
from dualcam.training.cache import (
    Advance,
    FeatureCache,
    build_cache,
    cache_path,
    check_room,
    locked,
    open_cache,
    photos_per_forward,
)
from dualcam.training.processes import Processes

COPY_ROWS = 4096


def build_shared_cache(
    model: DualBranch,
    head: Head,
    photos: PhotoViews,
    directory: Path,
    processes: Processes,
    *,
    workers: int = 0,
    advance: Advance | None = None,
) -> FeatureCache:
    """Open the cache of ``head.reduce(F)`` for all views; what is missing is computed by all ``processes``.

    The result is the file that one process would have written: photos go through the model in the same company. The
    parts lie in ``<key>.shards`` until they are put together, so that a run that was killed goes on where it stopped.
    ``directory`` is one that all processes see. Raises `DataError` in all of them if one can read none of its photos.
    """
    final = cache_path(model, head, photos, directory)
    missing = not (final / "meta.json").is_file()
    processes.meet()  # all have looked before the first makes it
    if not missing:
        return build_cache(model, head, photos, directory, workers=workers, advance=advance)
    home = final.with_name(f"{final.name}.shards")
    own, error, path = bounds(len(photos), photos_per_forward(photos), processes)[processes.rank], None, None
    if own.stop > own.start:
        try:
            path = build_cache(model, head, photos.part(own), home, workers=workers, advance=advance).path
        except DataError as failure:
            error = str(failure)
    found = processes.gather((error, own, path))
    failed = [text for text, _, _ in found if text is not None]
    if failed:
        raise DataError(failed[0])
    if processes.is_first:
        _put_together([(place, part) for _, place, part in found if part is not None], len(photos), final)
        shutil.rmtree(home, ignore_errors=True)
    processes.meet()
    return open_cache(final, was_built=True)


def bounds(photos: int, company: int, processes: Processes) -> list[range]:
    """Return each process's photos, whole groups of ``company`` that go through the model together."""
    groups = -(-photos // company)
    starts = [rank * groups // processes.world * company for rank in range(processes.world + 1)]
    return [range(min(a, photos), min(b, photos)) for a, b in pairwise(starts)]


def _put_together(parts: list[tuple[range, Path]], photos: int, final: Path) -> None:
    """Write the whole cache from those of ``parts``."""
    partial = final.with_name(f"{final.name}.part")
    partial.mkdir(parents=True, exist_ok=True)
    with locked(partial):
        caches = [(place, open_cache(path, was_built=True)) for place, path in parts]
        first = caches[0][1]
        shape = (photos * first.views, *first.features.shape[1:])
        check_room(partial, 4 * math.prod(shape))
        features = np.lib.format.open_memmap(partial / "features.npy", mode="w+", dtype=np.float32, shape=shape)
        positions: list[int] = []
        broken: dict[str, str] = {}
        for place, cache in caches:
            row = place.start * first.views
            for start in range(0, len(cache.features), COPY_ROWS):
                block = cache.features[start : start + COPY_ROWS]
                features[row + start : row + start + len(block)] = block
            positions += (place.start + np.flatnonzero(~cache.usable)).tolist()
            broken |= cache.broken
        features.flush()
        meta = {"views": first.views, "photos": photos, "positions": positions, "broken": broken}
        write_json(partial / "meta.json", meta)
        (partial / "progress.json").unlink(missing_ok=True)
        partial.rename(final)
