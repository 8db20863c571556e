"""Train the sigmoid branch that dualcam ships, and say what its zero means.

    python tools/default_branch.py train --data-root DATA
    python tools/default_branch.py zero --data-root DATA [--model DIR]

DATA holds imagenet-one-per-class (an image folder by WordNet id) and imagenet-val-subset (WSOL metadata). What its maps
are worth is measured by `dualcam evaluate DATA/imagenet-val-subset`; choices were made on the even positions of the
sorted validation ids.
"""

from pathlib import Path

import numpy as np
import torch
from cyclopts import App
from rich.console import Console

import dualcam
from dualcam import checkpoint
from dualcam.data.prepared import prepare_photo
from dualcam.datasets import open_dataset
from dualcam.training.report import TerminalReporter
from dualcam.training.settings import TrainingSettings

BATCH = 8
RECIPE = TrainingSettings(
    solver="lbfgs",
    labels="soft",
    temperature=3.0,
    epochs=8,
    weight_decay=0.3,
    anchor="start",
    views=6,
    augment="resized-crop",
    min_scale=0.08,
    val_share=0.0,
)
TERMS = (
    "Trained on ImageNet photos, whose terms allow non-commercial research and education only; the photos are not "
    "part of this package."
)
app = App(help=__doc__)
console = Console()


@app.command
def train(*, data_root: Path, out: Path = checkpoint.DEFAULT, cache_dir: Path | None = None) -> None:
    """Train the branch by `RECIPE` and write it, in 16 bits, where the package looks for it."""
    model = dualcam.wrap("builtin:efficientnet-lite0")
    data = data_root / "imagenet-one-per-class"
    trained = dualcam.fit(model, data, settings=RECIPE, cache_dir=cache_dir, reporter=TerminalReporter())
    assert trained.training_record is not None
    record = {
        **trained.training_record,
        "terms": TERMS,
        "command": "python tools/default_branch.py train --data-root DATA",
    }
    checkpoint.save(trained, out, record=record, half=True)
    console.print(f"wrote {out}")


@app.command
def zero(*, data_root: Path, model: Path = checkpoint.DEFAULT) -> None:
    """Print how often the right class and the wrong ones have logits above zero, by branch."""
    wrapped = dualcam.wrap(model).eval()
    dataset = open_dataset(data_root / "imagenet-val-subset", "val")
    above: dict[str, list[tuple[float, float]]] = {"softmax": [], "sigmoid": []}
    for start in range(0, len(dataset), BATCH):
        part = range(start, min(start + BATCH, len(dataset)))
        photos = [prepare_photo(wrapped.preprocessing, dataset.root / dataset.paths[i]).tensor for i in part]
        with torch.no_grad():
            both = wrapped(torch.stack(photos))
        for branch, logits in both._asdict().items():
            for row, label in zip(logits > 0, dataset.labels[part].tolist(), strict=True):
                own = float(row[label])
                above[branch].append((own, (float(row.sum()) - own) / (len(row) - 1)))
    for branch, rows in above.items():
        own, others = 100 * np.mean(rows, 0)
        console.print(f"{branch}: right class above zero {own:.1f} %, wrong ones {others:.2f} %, n = {len(rows)}")


if __name__ == "__main__":
    app()
