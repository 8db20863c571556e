"""What fidelity of a whole grid costs, over plain eager forwards of as many photos.

    python -m benchmarks.fidelity --data-root DATA [--model timm:NAME --weights random] [--rounds 3] [--photos 24]
        [--metrics all --sample 4] [--without road] [--each]

DATA holds imagenet-val-subset, of which the boxes are not used. CPU time of the process, all threads; rounds are
interleaved, the figure is the ratio of medians. The evaluation decodes the photos, runs the model once, draws every map
of the grid (4 branches, 2 signs, the usual methods, 3 normalizations), forms the modified photos, recognizes equal
ones, scores each distinct one and writes the records. The plain forwards (no gradients) get as many photos, ready, in
batches of the same size. ``--each`` measures the metrics one at a time as well; of those that ask about no modified
photo the ratio is of what they share (decoding, maps) to the plain photos alone: read their milliseconds.
"""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import torch
from cyclopts import App, Parameter
from rich.progress import Progress
from torch import Tensor, nn

from benchmarks.grid import BATCH, prepare
from dualcam.cli.runtime import tune_process
from dualcam.data.prepared import prepare_photo
from dualcam.evaluation.fidelity import choose_fidelity, plan_metrics
from dualcam.evaluation.measure import Protocol
from dualcam.evaluation.photos import Photos
from dualcam.evaluation.records import Records
from dualcam.evaluation.run import Evaluation, run_evaluation
from dualcam.evaluation.views import make_views
from dualcam.metrics import fidelity as plugins

app = App(help=__doc__)


@app.default
def main(
    *,
    data_root: Path,
    model: str | None = None,
    weights: str = "pretrained",
    rounds: int = 3,
    photos: int = 24,
    metrics: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="")] = (),
    without: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="")] = (),
    sample: int | None = None,
    each: bool = False,
) -> None:
    """Print photos, seconds and ratio."""
    wrapped, grid, everything = prepare(model, weights, data_root)
    chosen = without_boxes(everything, photos)
    names = [name for name in choose_fidelity(metrics, truth=False).metrics if name not in without]
    works = [
        Evaluation(
            model=wrapped,
            photos=chosen,
            kinds=tuple(grid.computed),
            views=make_views(wrapped.preprocessing),
            protocol=Protocol(grid.normalizations),
            batch_size=BATCH,
            fidelity=choose_fidelity(some, sample=sample, truth=False),
        )
        for some in ([names, *([name] for name in names)] if each else [names])
    ]
    part = chosen.parts[0]
    paths = [part.root / part.paths[place % len(part)] for place in range(BATCH)]
    ready = torch.stack([prepare_photo(wrapped.preprocessing, path).tensor for path in paths])
    evaluate(works[0])  # warms up
    found: list[list[tuple[int, float, float]]] = [[] for _ in works]
    for _ in range(rounds):
        for work, costs in zip(works, found, strict=True):
            costs.append(costs_of(work, wrapped.classifier, ready))
    print(f"{len(part)} photos, {len(grid.cells)} cells, {len(grid.computed)} maps computed of a photo")
    for work, costs in zip(works, found, strict=True):
        assert work.fidelity is not None
        counts, ours, plain = zip(*costs, strict=True)
        print(
            f"{', '.join(work.fidelity.metrics)}: {counts[0]} distinct photos went through the model, the plain ones "
            f"among them, of {questions(work, len(grid.cells))} modified ones asked about by their maps; "
            f"{1e3 * median(plain) / counts[0]:.2f} ms a plain forward, "
            f"{1e3 * (median(ours) - median(plain)) / len(part):.0f} ms more a photo, "
            f"ratio {median(ours) / median(plain):.3f}"
        )


def costs_of(work: Evaluation, classifier: nn.Module, ready: Tensor) -> tuple[int, float, float]:
    """Return the forwards of an evaluation, its seconds, and those of as many plain forwards."""
    with counted(classifier) as seen:
        start = time.process_time()
        evaluate(work)
        middle = time.process_time()
    with torch.no_grad():
        for first in range(0, seen[0], BATCH):
            classifier(ready[: min(BATCH, seen[0] - first)])
    return seen[0], middle - start, time.process_time() - middle


def without_boxes(photos: Photos, count: int) -> Photos:
    """Return the first ``count`` photos, on which nothing is localized."""
    part = replace(photos.parts[0].subset(range(count)), boxes=None)
    return replace(
        photos,
        parts=(part,),
        labels=photos.labels[:count],
        choosing=photos.choosing[:0],
        reported=photos.reported[:count],
    )


def evaluate(work: Evaluation) -> None:
    """Run the evaluation from nothing."""
    with tempfile.TemporaryDirectory() as folder, Progress(disable=True) as progress:
        run_evaluation(work, Records(Path(folder), {}, work.record_type(), len(work.photos)), progress)


def questions(work: Evaluation, cells: int) -> int:
    """Return how many modified photos the metrics ask about if every map of every cell has its own."""
    assert work.fidelity is not None
    total = 0
    for names in plan_metrics(work.fidelity, work.photos).values():
        asked = {each for name in names for each in plugins.get(name).perturbations(work.fidelity.settings)}
        total += cells * sum(each.count(work.fidelity.settings) for each in asked)
    return total


@contextmanager
def counted(module: nn.Module) -> Iterator[list[int]]:
    """Count the photos that go through ``module`` inside the block."""
    seen = [0]

    def count(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
        images: Tensor = inputs[0]
        seen[0] += len(images)

    handle = module.register_forward_pre_hook(count)
    try:
        yield seen
    finally:
        handle.remove()


if __name__ == "__main__":
    tune_process()
    app()
