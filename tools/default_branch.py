"""Train the sigmoid branch that dualcam ships, and measure it on photos that had no part in its training.

    python tools/default_branch.py train --data-root DATA
    python tools/default_branch.py evaluate --data-root DATA [--size 224 288] [--model DIR]

DATA holds imagenet-one-per-class (an image folder by WordNet id) and imagenet-val-subset (WSOL metadata). Choices are
made on the even positions of the sorted validation ids; the odd ones are reported.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, TypeAlias

import numpy as np
import torch
from cyclopts import App, Parameter
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import dualcam
from dualcam import checkpoint
from dualcam.data.prepared import prepare_photo
from dualcam.datasets import Dataset, open_dataset
from dualcam.datasets.wsol import numbered_lines
from dualcam.explainer import check_options, explain_forward, run_model
from dualcam.heatmap import normalize
from dualcam.localize import find_boxes, iou
from dualcam.metrics.bootstrap import mean_interval
from dualcam.metrics.box_curve import box_curve, cuts_of, quantize
from dualcam.metrics.localization import count_hits, v2_scores
from dualcam.model import DualBranch
from dualcam.training.report import TerminalReporter
from dualcam.training.settings import TrainingSettings
from dualcam.types import Branch, Normalization, Sign

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
GRID = 224
THRESHOLDS = np.arange(0, 1, 0.01)
BRANCHES: tuple[Branch, ...] = ("softmax", "sigmoid")
SIGNS: tuple[Sign, ...] = ("signed", "positive")
NORMALIZATIONS: tuple[tuple[str, Normalization, float], ...] = (
    ("min-max", "minmax", 0),
    ("max", "max", 0),
    *((f"IVR {p}", "ivr", p) for p in (15, 25, 35, 45)),
)
Measure: TypeAlias = "Callable[[Cell, NDArray[np.int64]], NDArray[np.float64]]"
app = App(help=__doc__)
console = Console(width=150)


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


@dataclass(frozen=True)
class Cell:
    """One column of figures: branch, sign, normalization; MaxBoxAccV2 IoUs [N, T] and Top-1 Loc hits [N]."""

    branch: Branch
    sign: Sign
    normalization: str
    ious: NDArray[np.float64]
    localized: NDArray[np.float64]

    @property
    def name(self) -> str:
        """Branch, sign and normalization."""
        return f"{self.branch} {self.sign} {self.normalization}"

    def box_hits(self, chosen: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return per image [N] its share of IoU levels reached, at each level's best threshold on ``chosen``."""
        return v2_scores(self.ious, count_hits(self.ious[chosen]).best())

    def top1_hits(self, chosen: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return Top-1 Loc per image [N]; its threshold is fixed, so ``chosen`` does not matter."""
        del chosen
        return self.localized


@app.command
def evaluate(
    *,
    data_root: Path,
    model: Path = checkpoint.DEFAULT,
    size: Annotated[list[int] | None, Parameter(consume_multiple=True)] = None,
) -> None:
    """Print both branches' MaxBoxAccV2 and Top-1 Loc on the odd half, with paired intervals; thresholds as defined."""
    wrapped = dualcam.wrap(model)
    data = data_root / "imagenet-val-subset"
    dataset = open_dataset(data, "val")
    boxes = read_boxes(data, dataset)
    order = np.argsort(np.array(dataset.paths))
    even, odd = order[::2], order[1::2]
    for edge in size or [224]:
        wrapped.preprocessing = replace(wrapped.preprocessing, size=(edge, edge))
        cells, zero = measure(wrapped, dataset, boxes)
        console.print(report(cells, even, odd, edge))
        console.print(zero)


def measure(model: DualBranch, dataset: Dataset, boxes: list[list[list[float]]]) -> tuple[list[Cell], str]:
    """Run the grid: one forward a photo serves every cell."""
    names = [(b, s, n) for b in BRANCHES for s in SIGNS for n in NORMALIZATIONS]
    ious: dict[int, list[NDArray[np.float64]]] = {index: [] for index in range(len(names))}
    hits: dict[int, list[float]] = {index: [] for index in range(len(names))}
    above: dict[Branch, list[tuple[float, float]]] = {branch: [] for branch in BRANCHES}
    for start in range(0, len(dataset), 8):
        part = range(start, min(start + 8, len(dataset)))
        photos = [prepare_photo(model.preprocessing, dataset.root / dataset.paths[i]) for i in part]
        forward = run_model(model, photos)
        labels = torch.from_numpy(dataset.labels[part])
        right = (forward.logits.argmax(1) == labels).tolist()
        with torch.no_grad():
            both = forward.logits, model.sigmoid_head(forward.activations)
        for branch, logits in zip(BRANCHES, both, strict=True):
            for row, label in zip(logits, labels, strict=True):
                others = (int((row > 0).sum()) - float(row[label] > 0)) / (len(row) - 1)
                above[branch].append((float(row[label] > 0), others))
        for branch in BRANCHES:
            for sign in SIGNS:
                options = check_options(model, method="cam", branch=branch, sign=sign, normalize=None)
                for evidence, correct, i in zip(
                    explain_forward(model, forward, labels[:, None], options), right, part, strict=True
                ):
                    values = evidence[0].logit_map((GRID, GRID))
                    for how in NORMALIZATIONS:
                        index = names.index((branch, sign, how))
                        heat = normalize(values, how[1], percentile=how[2])
                        ious[index].append(best_ious(heat, boxes[i]))
                        hits[index].append(float(correct and top_box_hits(heat, boxes[i])))
    cells = [Cell(b, s, n[0], np.array(ious[k]), np.array(hits[k])) for k, (b, s, n) in enumerate(names)]
    zero = "; ".join(
        f"{branch}: own class above zero {100 * np.mean([own for own, _ in rows]):.1f} %, "
        f"other classes above zero {100 * np.mean([rest for _, rest in rows]):.2f} %"
        for branch, rows in above.items()
    )
    return cells, f"what zero means, n = {len(dataset)}: {zero}"


def best_ious(heat: NDArray[np.float32], truth: list[list[float]]) -> NDArray[np.float64]:
    """Return the best IoU of any component's box with any true box at each of `THRESHOLDS`."""
    levels = quantize(heat)
    return box_curve(levels, cuts_of(levels, THRESHOLDS), np.array(truth), mode="clean", largest=False).any


def top_box_hits(heat: NDArray[np.float32], truth: list[list[float]]) -> bool:
    """Whether the largest box above 0.2 of the maximum has IoU >= 0.5 with any true box."""
    found = find_boxes(heat, 0.2)
    if not found:
        return False
    best = max(found, key=lambda box: (box.x1 - box.x0) * (box.y1 - box.y0))
    return any(iou((best.x0, best.y0, best.x1, best.y1), box) >= 0.5 for box in truth)


def read_boxes(data: Path, dataset: Dataset) -> list[list[list[float]]]:
    """Return the true boxes of each photo, on the 224 x 224 grid."""
    metadata = data / "metadata" / dataset.split
    sizes = {path: (float(w), float(h)) for path, w, h in rows_of(metadata / "image_sizes.txt", 3)}
    found: dict[str, list[list[float]]] = {}
    for path, *corners in rows_of(metadata / "localization.txt", 5):
        width, height = sizes[path]
        scale = (GRID / width, GRID / height)
        found.setdefault(path, []).append([float(value) * scale[axis % 2] for axis, value in enumerate(corners)])
    return [found[path] for path in dataset.paths]


def rows_of(file: Path, fields: int) -> Iterator[list[str]]:
    """Yield the comma-separated fields of each line."""
    for _, line in numbered_lines(file):
        yield line.rsplit(",", fields - 1)


def report(cells: list[Cell], even: NDArray[np.int64], odd: NDArray[np.int64], edge: int) -> Table:
    """Return the table: figures on the odd half, and the sigmoid branch minus the softmax branch in the same cell."""
    title = f"{edge} px, n = {len(odd)} (odd positions); percent; difference: sigmoid - softmax, paired 95 % interval"
    table = Table(title=title)
    columns = ("cell", "V2 even", "V2 odd", "difference", "Top-1 Loc even", "Top-1 Loc odd", "difference")
    for column in columns:
        table.add_column(column)
    softmax = {(c.sign, c.normalization): c for c in cells if c.branch == "softmax"}
    for cell in cells:
        base = softmax[cell.sign, cell.normalization]
        row = [cell.name]
        for measure_ in (Cell.box_hits, Cell.top1_hits):
            row += [f"{100 * measure_(cell, even)[half].mean():.2f}" for half in (even, odd)]
            row.append("" if cell is base else gain(cell, base, measure_, even, odd))
        table.add_row(*row)
    for what, measure_ in (("V2", Cell.box_hits), ("Top-1 Loc", Cell.top1_hits)):
        best = {b: max((c for c in cells if c.branch == b), key=partial(on_even, measure_, even)) for b in BRANCHES}
        ours, theirs = best["sigmoid"], best["softmax"]
        text = f"best on even by {what}: {ours.name} - {theirs.name}"
        table.add_row(text, "", "", gain(ours, theirs, measure_, even, odd), "", "", "")
    return table


def on_even(measure_: Measure, even: NDArray[np.int64], cell: Cell) -> float:
    """Return the figure a cell is chosen by."""
    return float(measure_(cell, even)[even].mean())


def gain(ours: Cell, theirs: Cell, measure_: Measure, even: NDArray[np.int64], odd: NDArray[np.int64]) -> str:
    """Return the paired difference on the odd half in points, with its interval."""
    return f"{mean_interval(100 * (measure_(ours, even) - measure_(theirs, even))[odd]):+.2f}"


if __name__ == "__main__":
    app()
