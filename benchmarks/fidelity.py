"""What fidelity of a whole grid costs, over plain eager forwards of as many photos.

    python -m benchmarks.fidelity --data-root DATA [--model timm:NAME --weights random] [--rounds 3] [--photos 24]
        [--metrics all --sample 4]

DATA holds imagenet-val-subset, of which the boxes are not used. CPU time of the process, all threads; rounds are
interleaved, the figure is the ratio of medians. The evaluation decodes the photos, runs the model once, draws every map
of the grid (4 branches, 2 signs, the usual methods, 3 normalizations), forms the modified photos, recognizes equal
ones, scores each distinct one and writes the records. The plain forwards (no gradients) get as many photos, ready, in
batches of the same size.
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
    sample: int | None = None,
) -> None:
    """Print photos, seconds and ratio."""
    wrapped, grid, everything = prepare(model, weights, data_root)
    chosen = without_boxes(everything, photos)
    work = Evaluation(
        model=wrapped,
        photos=chosen,
        kinds=tuple(grid.computed),
        views=make_views(wrapped.preprocessing),
        protocol=Protocol(grid.normalizations),
        batch_size=BATCH,
        fidelity=choose_fidelity(metrics, sample=sample, truth=False),
    )
    part = chosen.parts[0]
    paths = [part.root / part.paths[place % len(part)] for place in range(BATCH)]
    ready = torch.stack([prepare_photo(wrapped.preprocessing, path).tensor for path in paths])
    found: dict[str, list[float]] = {"plain forwards": [], "evaluation": []}
    for round_ in range(rounds + 1):
        start = time.process_time()
        with counted(wrapped.classifier) as seen:
            evaluate(work)
        middle = time.process_time()
        with torch.no_grad():
            for first in range(0, seen[0], BATCH):
                wrapped.classifier(ready[: min(BATCH, seen[0] - first)])
        if round_:  # the first warms up
            found["evaluation"].append(middle - start)
            found["plain forwards"].append(time.process_time() - middle)
    for name, seconds in found.items():
        print(f"{name}: {1e3 * median(seconds) / seen[0]:.2f} ms a distinct photo")
    assert work.fidelity is not None
    print(f"{', '.join(work.fidelity.metrics)}; {len(grid.cells)} cells, {len(grid.computed)} maps computed")
    print(f"{len(part)} photos, {questions(work, len(grid.cells))} modified ones asked about by their maps")
    print(f"{seen[0]} distinct photos went through the model, the plain ones among them")
    print(f"ratio {median(found['evaluation']) / median(found['plain forwards']):.3f}")


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
