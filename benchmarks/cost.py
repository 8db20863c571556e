"""What the sigmoid branch adds: parameters, time of a forward, of an explanation, of an epoch on cached features.

    python -m benchmarks.cost [--models torchvision:vgg16 wsol:resnet50-28 ...] [--rounds 5] [--markdown FILE]

Random weights, 1000 classes, 224 x 224 (InceptionV3 299), batches of 8, one thread. CPU time of the process, rounds
interleaved, medians; a ratio is over the classifier's own forward under inference_mode of the same photos. The epoch is
one of SGD over cached features, a photo's share of it.
"""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import torch
from cyclopts import App, Parameter
from torch import Tensor

import dualcam
from dualcam.cli.runtime import tune_process
from dualcam.files import write_whole
from dualcam.heads import Head
from dualcam.losses import class_balanced_bce, positive_weights
from dualcam.model import DualBranch, clone_head

MODELS = (
    "torchvision:vgg16",
    "wsol:vgg16-14",
    "torchvision:resnet50",
    "wsol:resnet50-28",
    "torchvision:inception_v3",
    "wsol:inception_v3-28",
)
HEADER = (
    "classifier",
    "head",
    "parameters",
    "the branch adds",
    "forward, ms a photo",
    "both branches' logits",
    "explanation",
    "epoch on cached features",
)
BATCH = 8
STEP_ROWS = 32
app = App(help=__doc__)


def epoch_step(head: Head, features: Tensor, labels: Tensor) -> Callable[[], None]:
    """Return one SGD step of the branch on cached features, as training takes it."""
    optimizer = torch.optim.SGD(head.parameters(), lr=1e-6, momentum=0.9, nesterov=True, fused=True)
    targets = torch.nn.functional.one_hot(labels, head.classes).float()
    weight = positive_weights(labels, head.classes, "uniform")

    def step() -> None:
        optimizer.zero_grad()
        torch.autograd.backward([class_balanced_bce(head.classify(features), targets, weight)])
        optimizer.step()

    return step


def calls(model: DualBranch) -> dict[str, tuple[Callable[[], Any], int]]:
    """Return what is measured, each with the number of photos that it serves."""
    images = torch.randn(BATCH, 3, *model.preprocessing.size)
    head = clone_head(model).eval().requires_grad_(True)
    with torch.no_grad():
        features = torch.cat([model.training_inputs(head, images)] * (STEP_ROWS // BATCH))
    labels = torch.arange(STEP_ROWS)

    def forward() -> None:
        with torch.inference_mode():
            model.classifier(images)

    def both() -> None:
        with torch.inference_mode():
            model(images)

    def explanation() -> None:
        model.explain(images)

    return {
        "forward": (forward, BATCH),
        "both": (both, BATCH),
        "explanation": (explanation, BATCH),
        "epoch": (epoch_step(head, features, labels), STEP_ROWS),
    }


def measure(name: str, rounds: int) -> list[str]:
    """Return the table's row of a model."""
    model = dualcam.wrap(name, weights="random")
    model.eval()
    work = calls(model)
    seconds: dict[str, list[float]] = {key: [] for key in work}
    for round_ in range(rounds + 1):
        for key, (call, photos) in work.items():
            start = time.process_time()
            call()
            if round_:  # the first warms up
                seconds[key].append((time.process_time() - start) / photos)
    taken = {key: median(values) for key, values in seconds.items()}
    own = sum(parameter.numel() for parameter in model.classifier.parameters())
    added = model.sigmoid_head.parameter_count()
    return [
        name,
        model.softmax_head.kind,
        f"{own / 1e6:.1f} M",
        f"{added / 1e6:.2f} M ({100 * added / own:.1f} %)",
        f"{1e3 * taken['forward']:.1f}",
        *(f"x {taken[key] / taken['forward']:.3f}" for key in ("both", "explanation", "epoch")),
    ]


@app.default
def main(
    *,
    models: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="")] = MODELS,
    rounds: int = 5,
    markdown: Path | None = None,
) -> None:
    """Print the table, and write it to a file if asked."""
    torch.set_num_threads(1)
    rows = [list(HEADER), ["---"] * len(HEADER)]
    for name in models:
        rows.append(measure(name, rounds))
        print(" | ".join(rows[-1]), flush=True)
    if markdown is not None:
        with write_whole(markdown) as temporary:
            temporary.write_text("\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    tune_process()
    app()
