"""The pass over the photos: batches through the model, records from their maps."""

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress

from dualcam.data.photos import MAX_MEGAPIXELS
from dualcam.data.stream import Broken, stream
from dualcam.errors import PhotoError
from dualcam.evaluation.cells import MapKind
from dualcam.evaluation.fidelity import Fidelity
from dualcam.evaluation.fidelity_pass import FidelityPass, check_fidelity
from dualcam.evaluation.measure import Protocol, measure
from dualcam.evaluation.photo_fidelity import Values
from dualcam.evaluation.photos import Photos
from dualcam.evaluation.records import Records, record_type
from dualcam.evaluation.truth import find_target
from dualcam.evaluation.views import Explained, LookLoader, Looks, View, ViewMaps, map_batch
from dualcam.model import DualBranch
from dualcam.types import Fit


@dataclass(frozen=True)
class Evaluation:
    """What is run; ``batch_size`` and ``workers`` change no result.

    Localization is judged where there is truth, fidelity where it is asked for. Raises `ChoiceError` for what can not
    be measured together.
    """

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
    fidelity: Fidelity | None = None

    def __post_init__(self) -> None:
        check_fidelity(self)

    @property
    def explained(self) -> tuple[Explained, ...]:
        """Whose evidence is drawn: the true class's for localization, and that of `Fidelity.explain`."""
        wanted: list[Explained] = ["true"] if self.photos.has_truth else []
        return tuple(dict.fromkeys(wanted + ([self.fidelity.explain] if self.fidelity else [])))

    def record_type(self) -> np.dtype[np.void]:
        """Return the type of this evaluation's records."""
        masks = all(part.masks is not None for part in self.photos.parts)
        metrics = self.fidelity.metrics if self.fidelity else ()
        return record_type(len(self.kinds), len(self.protocol.normalizations), masks=masks, fidelity=metrics)


def run_evaluation(work: Evaluation, records: Records, progress: Progress) -> dict[str, str]:
    """Measure the photos that have no record yet; return the errors of the broken ones by path."""
    wanted = np.union1d(work.photos.choosing, work.photos.reported)
    todo = np.intersect1d(records.pending(), wanted)
    errors: dict[str, str] = {}
    task = progress.add_task("evaluating", total=len(wanted), completed=len(wanted) - len(todo))
    asking = FidelityPass(work, work.fidelity) if work.fidelity else None
    for position, result in _results(work, todo, records.rows.dtype, asking):
        if isinstance(result, Broken):
            errors[result.photo] = result.error
            records.fail(position)
        else:
            records.put(position, result)
        progress.advance(task)
        if asking is not None:
            progress.update(task, description=f"evaluating ({asking.forwards} modified photos)")
    return errors


def _results(
    work: Evaluation, todo: NDArray[np.int64], kind: np.dtype[np.void], asking: FidelityPass | None
) -> Iterator[tuple[int, NDArray[Any] | Broken]]:
    """Yield (position, record or why there is none); maps are judged in threads while the model goes on."""
    loader = LookLoader(work.model.preprocessing, work.views, work.fit, work.max_megapixels, work.guided)
    paths = [os.fspath(part.root / part.paths[place]) for part, place in map(work.photos.locate, todo.tolist())]
    batches = stream(paths, loader, batch_size=work.batch_size, workers=work.workers)
    waiting: dict[int, Future[NDArray[Any] | Broken]] = {}
    planned = asking.plan if asking else {}
    done = 0
    pool = ThreadPoolExecutor(max(1, work.workers), thread_name_prefix="judge")
    try:
        for batch in batches:
            placed = list(zip(todo[done : done + len(batch)].tolist(), batch, strict=True))
            done += len(batch)
            yield from ((position, item) for position, item in placed if isinstance(item, Broken))
            good = [(position, item) for position, item in placed if isinstance(item, Looks)]
            if not good:
                continue
            labels = torch.from_numpy(work.photos.labels[[position for position, _ in good]])
            looks = [item for _, item in good]
            found, forward = map_batch(work.model, looks, work.views, work.kinds, labels, work.explained)
            scores = forward.logits.float().cpu().numpy()
            for place, (position, item) in enumerate(good):
                waiting[position] = pool.submit(_judge, work, found, place, scores[place], position, item, kind)
            for position, values in asking.measure(good, found, forward) if asking else ():
                yield position, _filled(waiting.pop(position).result(), values)
            ready = [position for position in waiting if position not in planned]
            for position in ready[: max(0, len(ready) - 2 * work.batch_size)]:
                yield position, waiting.pop(position).result()
        for position, values in asking.finish() if asking else ():
            yield position, _filled(waiting.pop(position).result(), values)
        for position, future in waiting.items():
            yield position, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _judge(
    work: Evaluation,
    found: dict[Explained, list[ViewMaps]],
    place: int,
    logits: NDArray[np.float32],
    position: int,
    looks: Looks,
    kind: np.dtype[np.void],
) -> NDArray[Any] | Broken:
    maps = (view.maps[place] for views in found.values() for view in views)
    if not (np.isfinite(logits).all() and all(bool(torch.isfinite(each).all()) for each in maps)):
        return Broken(looks.photo, f"{looks.photo}: the model's scores are not finite numbers", looks.source)
    try:
        target = find_target(work.photos, position, looks.source, work.protocol.mode)
    except PhotoError as error:
        return Broken(looks.photo, str(error), looks.source)
    return measure(found[work.explained[0]], place, logits, target, work.protocol, kind, looks.guide)


def _filled(record: NDArray[Any] | Broken, values: Values) -> NDArray[Any] | Broken:
    """Return a record with its fidelity."""
    if not isinstance(record, Broken):
        record["explained"], record["score"] = values.label, values.probability
        record["fidelity"], record["trivial"] = values.maps, values.trivial
    return record
