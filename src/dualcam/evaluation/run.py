"""The pass over the photos: batches through the model, records from their maps."""

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress

from dualcam.data.photos import MAX_MEGAPIXELS, open_mask
from dualcam.data.stream import Broken, stream
from dualcam.errors import PhotoError
from dualcam.evaluation.cells import MapKind
from dualcam.evaluation.measure import Protocol, Target, measure
from dualcam.evaluation.photos import Photos
from dualcam.evaluation.records import Records
from dualcam.evaluation.views import GRID, LookLoader, Looks, View, map_batch
from dualcam.metrics.box_curve import scale_boxes
from dualcam.metrics.pixel_ap import instance_mask
from dualcam.model import DualBranch
from dualcam.types import Fit


@dataclass(frozen=True)
class Evaluation:
    """What is run; ``batch_size`` and ``workers`` change no result."""

    model: DualBranch
    photos: Photos
    kinds: tuple[MapKind, ...]
    views: tuple[View, ...]
    protocol: Protocol
    fit: Fit = "squash"
    guided: bool = False
    max_megapixels: float = MAX_MEGAPIXELS
    batch_size: int = 16
    workers: int = 2


def run_evaluation(work: Evaluation, records: Records, progress: Progress) -> dict[str, str]:
    """Measure the photos that have no record yet; return the errors of the broken ones by path."""
    wanted = np.union1d(work.photos.choosing, work.photos.reported)
    todo = np.intersect1d(records.pending(), wanted)
    errors: dict[str, str] = {}
    task = progress.add_task("evaluating", total=len(wanted), completed=len(wanted) - len(todo))
    for position, result in _results(work, todo, records.rows.dtype):
        if isinstance(result, Broken):
            errors[result.photo] = result.error
            records.fail(position)
        else:
            records.put(position, result)
        progress.advance(task)
    return errors


def _results(
    work: Evaluation, todo: NDArray[np.int64], kind: np.dtype[np.void]
) -> Iterator[tuple[int, NDArray[Any] | Broken]]:
    """Yield (position, record or why there is none); maps are judged in threads while the model goes on."""
    loader = LookLoader(work.model.preprocessing, work.views, work.fit, work.max_megapixels, work.guided)
    paths = [os.fspath(part.root / part.paths[place]) for part, place in map(work.photos.locate, todo.tolist())]
    batches = stream(paths, loader, batch_size=work.batch_size, workers=work.workers)
    waiting: deque[tuple[int, Future[NDArray[Any] | Broken]]] = deque()
    done = 0
    pool = ThreadPoolExecutor(max(1, work.workers), thread_name_prefix="judge")
    try:
        for batch in batches:
            positions = todo[done : done + len(batch)].tolist()
            done += len(batch)
            good = [
                (position, looks) for position, looks in zip(positions, batch, strict=True) if isinstance(looks, Looks)
            ]
            yield from (
                (position, item) for position, item in zip(positions, batch, strict=True) if isinstance(item, Broken)
            )
            if not good:
                continue
            labels = torch.from_numpy(work.photos.labels[[position for position, _ in good]])
            views, logits = map_batch(work.model, [looks for _, looks in good], work.views, work.kinds, labels)
            scores = logits.float().cpu().numpy()
            for place, (position, looks) in enumerate(good):
                waiting.append(
                    (position, pool.submit(_judge, work, views, place, scores[place], position, looks, kind))
                )
            while len(waiting) > 2 * work.batch_size:
                position, future = waiting.popleft()
                yield position, future.result()
        while waiting:
            position, future = waiting.popleft()
            yield position, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _judge(
    work: Evaluation,
    views: list[Any],
    place: int,
    logits: NDArray[np.float32],
    position: int,
    looks: Looks,
    kind: np.dtype[np.void],
) -> NDArray[Any] | Broken:
    if not (np.isfinite(logits).all() and all(bool(torch.isfinite(view.maps[place]).all()) for view in views)):
        return Broken(looks.photo, f"{looks.photo}: the model's scores are not finite numbers", looks.source)
    try:
        target = find_target(work.photos, position, looks.source, work.protocol)
    except PhotoError as error:
        return Broken(looks.photo, str(error), looks.source)
    return measure(views, place, logits, target, work.protocol, kind, looks.guide)


def find_target(photos: Photos, position: int, size: tuple[int, int], protocol: Protocol) -> Target:
    """Return the ground truth of a photo of ``size`` (width, height); raises `PhotoError` for a broken mask."""
    part, place = photos.locate(position)
    stated = size if part.sizes is None else (int(part.sizes[place, 0]), int(part.sizes[place, 1]))
    boxes = None if part.boxes is None else scale_boxes(part.boxes[place], stated, grid=GRID, mode=protocol.mode)
    mask = None
    if part.masks is not None:
        instances = [open_mask(part.root / path) for path in part.masks.instances[place]]
        ignored = [open_mask(part.root / path) for path in part.masks.ignored[place]]
        mask = instance_mask(instances, ignored, grid=GRID)
    return Target(int(photos.labels[position]), boxes, mask)
