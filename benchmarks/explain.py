"""What an explanation costs: CPU time over one plain eager forward, and peak extra memory; peers in the same run.

    python benchmarks/explain.py [--rounds 7] [--models resnet50 mobilenet_v2] [--batches 1 16] [--skip-memory]
        [--variants "dualcam 1" "torchcam 1"]

Random weights, 224 x 224, one thread. Time: rounds are interleaved, so that a noisy machine hits all alike (ten times
as many at batch 1); the figure is the ratio of medians of process CPU time, over the forward as a user writes it
(``plain``, which builds an autograd graph) and over the leanest one (``inference``, under inference_mode). Memory: peak
resident size above the idle process with its model, in a fresh process each, median of five, over ``inference``.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import torch
import torchvision
from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table
from torch import Tensor

import dualcam

Names = Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="")]
Counts = Annotated[tuple[int, ...], Parameter(consume_multiple=True, negative="")]
BASELINES = ("plain", "inference")
TOOLS = ("dualcam 1", "dualcam 5", "dualcam all", "torchcam 1", "torchcam 5", "grad-cam 1", "grad-cam 5")
LAST = {"resnet50": "layer4", "mobilenet_v2": "features"}
MEMORY_RUNS = 5
app = App(help=__doc__)
console = Console(width=140)


def make(variant: str, name: str, images: Tensor) -> Callable[[], Any]:
    """Return the call that ``variant`` measures; models are built before, not in it."""
    tool, _, count = variant.partition(" ")
    model = torchvision.models.get_model(name, weights=None).eval()
    with torch.inference_mode():
        model(images[:2])  # wrap() runs a forward of two, so everybody starts as warm
    classes = list(range(int(count))) if count.isdigit() else "all"
    if tool in BASELINES:

        def forward() -> Tensor:
            with torch.inference_mode(tool == "inference"):
                return model(images)  # type: ignore[no-any-return]

        return forward
    if tool == "dualcam":
        wrapped = dualcam.wrap(model)
        return lambda: wrapped.explain(images, classes, method="grad-cam", sign="signed")
    if tool == "torchcam":
        from torchcam.methods import GradCAM

        extractor = GradCAM(model, target_layer=LAST[name])

        def torchcam() -> None:
            scores = model(images)
            for k in classes:
                extractor(k, scores, retain_graph=k != classes[-1])

        return torchcam
    from pytorch_grad_cam import GradCAM as PeerGradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    cam = PeerGradCAM(model=model, target_layers=[model.get_submodule(LAST[name])])

    def grad_cam() -> None:
        for k in classes:
            cam(input_tensor=images, targets=[ClassifierOutputTarget(k)] * len(images))

    return grad_cam


def times(name: str, batch: int, rounds: int, variants: tuple[str, ...]) -> dict[str, float]:
    """Return the median CPU seconds a photo of each variant, measured in turns."""
    images = torch.randn(batch, 3, 224, 224)
    calls = {variant: make(variant, name, images) for variant in variants}
    found: dict[str, list[float]] = {variant: [] for variant in variants}
    for round_ in range(rounds + 1):
        for variant, call in calls.items():
            start = time.process_time()
            call()
            if round_:  # the first round warms up
                found[variant].append((time.process_time() - start) / batch)
    return {variant: median(values) for variant, values in found.items()}


def peak_above_idle(variant: str, name: str, batch: int) -> float:
    """Return the peak resident size in MiB above the idle process, measured in a fresh process."""
    command = [sys.executable, __file__, "one-peak", variant, name, str(batch)]
    values = [json.loads(subprocess.check_output(command)) for _ in range(MEMORY_RUNS)]
    return float(median(values))


@app.command(show=False)
def one_peak(variant: str, name: str, batch: int) -> None:
    """Measure one call in this process."""
    torch.set_num_threads(1)
    call = make(variant, name, torch.randn(batch, 3, 224, 224))
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak counts from here
    idle = resident("VmRSS")
    call()
    print(json.dumps((resident("VmHWM") - idle) / 1024))


def resident(field: str) -> int:
    """Return a size of this process in KiB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1])


@app.default
def main(
    *,
    rounds: int = 7,
    models: Names = ("resnet50", "mobilenet_v2"),
    batches: Counts = (1, 16),
    variants: Names = TOOLS,
    skip_memory: bool = False,
) -> None:
    """Print the table."""
    torch.set_num_threads(1)
    variants = (*BASELINES, *variants)
    table = Table(title="CPU time over one forward; peak extra memory over that of the forward under inference_mode")
    for column in ("model", "batch", "variant", "ms a photo", "over plain", "over inference", "MiB", "memory"):
        table.add_column(column)
    for name in models:
        for batch in batches:
            seconds = times(name, batch, rounds if batch > 1 else 10 * rounds, variants)
            peaks = (
                {v: peak_above_idle(v, name, batch) for v in variants}
                if batch == max(batches) and not skip_memory
                else {}
            )
            for variant in variants:
                row = [name, str(batch), variant, f"{1e3 * seconds[variant]:.1f}"]
                row += [f"{seconds[variant] / seconds[baseline]:.3f}" for baseline in BASELINES]
                if peaks:
                    row += [f"{peaks[variant]:.0f}", f"{peaks[variant] / peaks['inference']:.2f}"]
                table.add_row(*row)
            table.add_section()
    console.print(table)


if __name__ == "__main__":
    app()
