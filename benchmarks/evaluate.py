"""What a whole evaluation grid costs, over plain eager forwards of the same photos alone.

    python -m benchmarks.evaluate --data-root DATA [--model timm:NAME --weights random] [--rounds 3] [--photos 160]

DATA holds imagenet-val-subset. CPU time of the process, all threads; rounds are interleaved, the figure is the ratio of
medians. An evaluation decodes and resizes the photos, runs the model once, draws every map of the grid (4 branches, 2
signs, all methods that apply), judges it under 3 normalizations at 256 cuts, and writes the records. The plain forward
gets photos that are ready, in the same batches.
"""

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Literal

import numpy as np
import torch
from cyclopts import App
from rich.progress import Progress

from benchmarks.grid import BATCH, prepare
from dualcam.cli.runtime import tune_process
from dualcam.data.prepared import prepare_photo
from dualcam.evaluation.measure import Protocol
from dualcam.evaluation.records import Records, record_type
from dualcam.evaluation.run import Evaluation, run_evaluation
from dualcam.evaluation.views import make_views

app = App(help=__doc__)


@app.default
def main(
    *,
    data_root: Path,
    model: str | None = None,
    weights: str = "pretrained",
    rounds: int = 3,
    photos: int = 160,
    mode: Literal["clean", "reference"] = "clean",
) -> None:
    """Print seconds and ratio."""
    wrapped, grid, everything = prepare(model, weights, data_root)
    chosen = replace(everything, choosing=everything.choosing[:photos], reported=everything.reported[:photos])
    work = Evaluation(
        model=wrapped,
        photos=chosen,
        kinds=tuple(grid.computed),
        views=make_views(wrapped.preprocessing),
        protocol=Protocol(grid.normalizations, mode),
        batch_size=BATCH,
    )
    part = chosen.parts[0]
    ready = torch.stack(
        [prepare_photo(wrapped.preprocessing, part.root / part.paths[i]).tensor for i in chosen.reported]
    )
    found: dict[str, list[float]] = {"plain forward": [], "evaluation": []}
    for round_ in range(rounds + 1):
        start = time.process_time()
        for batch in torch.split(ready, BATCH):
            wrapped.classifier(batch)
        middle = time.process_time()
        with tempfile.TemporaryDirectory() as folder, Progress(disable=True) as progress:
            kind = record_type(len(grid.computed), len(grid.normalizations), masks=False)
            records = Records(Path(folder), {"photos": photos}, kind, len(chosen))
            run_evaluation(work, records, progress)
        if round_:  # the first warms up
            found["plain forward"].append(middle - start)
            found["evaluation"].append(time.process_time() - middle)
    count = len(np.atleast_1d(chosen.reported))
    for name, seconds in found.items():
        print(f"{name}: {1e3 * median(seconds) / count:.1f} ms a photo")
    print(f"{len(grid.cells)} cells, {len(grid.computed)} maps computed, n = {count}, {mode} boxes")
    print(f"ratio {median(found['evaluation']) / median(found['plain forward']):.2f}")


if __name__ == "__main__":
    tune_process()
    app()
