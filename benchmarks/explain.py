"""What an explanation costs: CPU time over one plain eager forward, and peak extra memory; peers in the same run.

    python -m benchmarks.explain [--models resnet50 vit_b_16] [--batches 1 16] [--variants "dualcam 1" "torchcam 1"]
        [--minutes 8] [--skip-memory] [--skip-score-cam] [--markdown docs/speed.md]

Random weights, 224 x 224, one thread. Time: rounds are interleaved, so that a noisy machine hits all alike; the figure
is the ratio of medians of process CPU time, over the forward as a user writes it (``plain``, which builds an autograd
graph) and over the leanest one (``inference``, under inference_mode). ``tail only K`` is the least that the gradients
of K classes cost: a forward that records from the tapped layer on, and its backward; ``second head`` is what any second
branch costs by itself. Memory: peak resident size above the idle process with its model, in a fresh process each, over
``inference``. ``--minutes`` is about what timing takes; slow models get three rounds in any case.
"""

import json
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Annotated

import torch
from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table

from benchmarks.explain_calls import BASELINES, SCORE_CAM_TOOLS, Subject, make, score_cams, variants_of
from benchmarks.explain_report import Figures, Row, ScoreCam, as_markdown
from dualcam.files import write_whole

Names = Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="")]
Counts = Annotated[tuple[int, ...], Parameter(consume_multiple=True, negative="")]
ROUNDS = (3, 60)
SLOW, SLOW_ROUNDS = 3.0, 3
"""Calls that take so many forwards are timed in so many rounds only."""
MEMORY_RUNS = {"dualcam": 3, "optimized": 3, "inference": 3, "plain": 1, "torchcam": 1, "captum": 1, "grad-cam": 1}
MEMORY_VARIANTS = (
    "inference",
    "plain",
    "dualcam 1",
    "dualcam 5",
    "dualcam all",
    "optimized 1",
    "torchcam 1",
    "captum 1",
    "grad-cam 1",
)
app = App(help=__doc__)
console = Console(width=150)


def times(subject: Subject, variants: tuple[str, ...], seconds: float) -> dict[str, float | str]:
    """Return the median CPU seconds a photo of each variant, measured in turns; or why it does not run."""
    calls, found, failed = {}, {}, {}
    for variant in variants:
        try:
            call = make(variant, subject)
            call()
        except Exception as error:  # a peer that can not explain a model is a result
            if not variant.startswith(("torchcam", "captum", "grad-cam")):
                raise
            failed[variant] = f"{type(error).__name__}: {str(error).splitlines()[0][:80]}"
        else:
            calls[variant], found[variant] = call, list[float]()
    rounds = ROUNDS[1]
    for round_ in range(ROUNDS[1]):
        if round_ >= rounds:
            break
        for variant, call in calls.items():
            if round_ >= SLOW_ROUNDS and min(found[variant]) > SLOW * min(found["plain"]):
                continue
            start = time.process_time()
            call()
            found[variant].append(time.process_time() - start)
        if round_ == 0:
            rounds = max(ROUNDS[0], min(ROUNDS[1], int(seconds / sum(values[0] for values in found.values()))))
    medians: dict[str, float | str] = {variant: median(values) / subject.batch for variant, values in found.items()}
    return medians | failed


def peak_above_idle(variant: str, name: str, batch: int) -> float | None:
    """Return the peak resident size in MiB above the idle process, in fresh processes; None where it does not run."""
    command = [sys.executable, "-m", "benchmarks.explain", "one-peak", variant, name, str(batch)]
    runs = MEMORY_RUNS[variant.partition(" ")[0]]
    outcomes = [subprocess.run(command, capture_output=True, text=True, check=False) for _ in range(runs)]
    values = [json.loads(outcome.stdout) for outcome in outcomes if outcome.returncode == 0]
    return float(median(values)) if values else None


@app.command(show=False)
def one_peak(variant: str, name: str, batch: int) -> None:
    """Measure one call in this process."""
    torch.set_num_threads(1)
    call = make(variant, Subject(name, batch))
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak counts from here
    idle = resident("VmRSS")
    call()
    print(json.dumps((resident("VmHWM") - idle) / 1024))


def resident(size: str) -> int:
    """Return a size of this process in KiB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(size)).split()[1])


def score_cam(name: str) -> Iterator[ScoreCam]:
    """Yield what Score-CAM of one image costs by each tool, in processes of their own."""
    for tool in SCORE_CAM_TOOLS:
        command = [sys.executable, "-m", "benchmarks.explain", "one-score-cam", tool, name]
        outcome = subprocess.run(command, capture_output=True, text=True, check=True)
        yield ScoreCam(name, tool, **json.loads(outcome.stdout.splitlines()[-1]))


@app.command(show=False)
def one_score_cam(tool: str, name: str) -> None:
    """Measure Score-CAM in this process: a call, and forwards of a batch of 16 on both sides of it."""
    torch.set_num_threads(1)
    subject = Subject(name, 16)
    call = score_cams(subject)[tool]
    turns = {"plain": make("plain", subject), "inference": make("inference", subject)}
    seconds: dict[str, list[float]] = {baseline: [] for baseline in turns}
    spent = 0.0
    for turn in range(6):
        for baseline, forward in turns.items():
            start = time.process_time()
            forward()
            seconds[baseline].append(time.process_time() - start)
        if turn == 2:  # machines change their pace
            start = time.process_time()
            call()
            spent = time.process_time() - start
    channels = subject.wrapped.anatomy.channels
    ratios = {baseline: spent / channels / (median(found) / subject.batch) for baseline, found in seconds.items()}
    print(json.dumps({"channels": channels, "seconds": spent, **ratios}))


def measure(name: str, batch: int, variants: tuple[str, ...], seconds: float, *, memory: bool) -> Iterator[Row]:
    """Yield a row for each variant on one model and batch."""
    found = times(Subject(name, batch), variants, seconds)
    for variant in variants:
        value = found[variant]
        peak = peak_above_idle(variant, name, batch) if memory and variant in MEMORY_VARIANTS else None
        if isinstance(value, str):
            yield Row(name, batch, variant, failure=value, mebibytes=peak)
        else:
            yield Row(name, batch, variant, value, mebibytes=peak)


def show(lines: list[list[str]], title: str) -> None:
    """Print a table."""
    table = Table(*lines[0], title=title)
    for line in lines[1:]:
        table.add_row(*line)
    console.print(table)


@app.default
def main(
    *,
    models: Names = ("resnet50", "mobilenet_v2", "vgg16", "vit_b_16"),
    batches: Counts = (1, 16),
    variants: Names = (),
    minutes: float = 8.0,
    skip_memory: bool = False,
    score_cam_models: Annotated[Names, Parameter(name="--score-cam")] = ("mobilenet_v2",),
    skip_score_cam: bool = False,
    markdown: Path | None = None,
) -> None:
    """Print the tables and the bars; ``--markdown`` writes them to a file as well."""
    torch.set_num_threads(1)
    share = 60 * minutes / (len(models) * len(batches))
    rows: list[Row] = []
    for name in models:
        for batch in batches:
            asked = (*BASELINES, *variants) if variants else variants_of(name, batch)
            memory = batch == max(batches) and not skip_memory
            part = list(measure(name, batch, tuple(dict.fromkeys(asked)), share, memory=memory))
            show(Figures(part).table(), f"{name}, batch {batch}")
            rows += part
    score_cams_found = [] if skip_score_cam else [item for name in score_cam_models for item in score_cam(name)]
    figures = Figures(rows, score_cams_found)
    if score_cams_found:
        show(figures.score_cam_table(), "Score-CAM of one image")
    show(figures.bar_table(), "bars")
    if markdown is not None:
        with write_whole(markdown) as temporary:
            temporary.write_text(as_markdown(figures, ABOUT.format(**machine()), EXPLAINED), encoding="utf-8")


def machine() -> dict[str, str]:
    """Return what the page says about the run."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    return {"cpu": cpu, "torch": torch.__version__, "command": "python -m benchmarks.explain --markdown docs/speed.md"}


ABOUT = """`{command}` on {cpu}, one thread, PyTorch {torch}; random weights, 224 x 224. Rounds are
interleaved; a figure is the ratio of medians of process CPU time. `plain` is the forward as a user writes it,
`inference` the leanest: the same under `inference_mode`. Memory is the peak resident size above the idle process with
its model, in fresh processes, over that of `inference`."""
EXPLAINED = """`dualcam K` explains K classes by Grad-CAM, `dualcam:METHOD 1` one class by another method; `optimized`
is the same with `dualcam.optimize`. `tail only K` is the least that gradients of K classes cost: a forward that records
from the tapped layer on, and its backward. `second head` is what a second branch costs by itself. `channels last` is
the plain forward with weights and images in that layout. Peers get the same layer."""


if __name__ == "__main__":
    app()
