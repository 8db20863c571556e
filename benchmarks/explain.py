"""What an explanation costs: CPU time over one plain eager forward, and peak extra memory; peers in the same run.

    python -m benchmarks.explain [--models resnet50 vit_b_16] [--batches 1 16] [--variants "dualcam 1" "torchcam 1"]
        [--bars] [--minutes 8] [--skip-memory] [--skip-score-cam] [--markdown docs/speed.md]

Random weights, 224 x 224, one thread. Time: rounds are interleaved, so that a noisy machine hits all alike; the figure
is the ratio of medians of process CPU time, over the forward as a user writes it (``plain``, which builds an autograd
graph) and over the leanest one (``inference``, under inference_mode). ``tail only K`` is the least that the gradients
of K classes cost: a forward that records from the tapped layer on, and its backward; ``second head`` is what any second
branch costs by itself. Memory: peak resident size above the idle process with its model, in a fresh process each, over
``inference``. ``--minutes`` is the CPU time of the rounds, half of it for what bars hang on alone; three rounds of all
are made in any case, nine of what bars hang on. A bar's interval is the middle 95 percent of what draws of its rounds
give. ``--bars`` measures what bars hang on, and nothing else: no peers, no other methods.
"""

import gc
import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from statistics import median
from typing import Annotated

import torch
from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table

from benchmarks.explain_calls import (
    BASELINES,
    SCORE_CAM_TOOLS,
    Opened,
    Subject,
    barred_of,
    opened,
    opened_score_cam,
    variants_of,
)
from benchmarks.explain_report import DRAWS, Figures, Row, ScoreCam, as_markdown
from dualcam.files import write_whole

Names = Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="")]
Counts = Annotated[tuple[int, ...], Parameter(consume_multiple=True, negative="")]
LEAST_ROUNDS, LEAST_BAR_ROUNDS, MOST_ROUNDS = 3, 9, 60
SLOW = 3.0
"""Calls that take so many forwards are timed in the least rounds only."""
MEMORY_RUNS = {"inference": 9, "dualcam 1": 9, "dualcam 5": 3, "dualcam all": 3, "optimized 1": 3}
"""One where no bar hangs on it. The same call's peak differs by a fourth, as freed blocks happen to fit the next."""
MEMORY_PROCESSES = 2
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
BAR_MEMORY_VARIANTS = ("inference", "dualcam 1")
BAR_SCORE_CAM_TOOLS = ("dualcam",)
app = App(help=__doc__)
console = Console(width=150)


def times(subject: Subject, variants: tuple[str, ...], seconds: float) -> dict[str, tuple[float, ...] | str]:
    """Return the CPU seconds a photo of each variant in each round, or why it does not run.

    After the least rounds, half of ``seconds`` is for all that is cheap, the rest for what bars hang on.
    """
    barred = barred_of(subject.name)
    found, failed = {}, {}
    for variant in variants:
        found[variant] = list[float]()
        if ":" in variant:  # another method on what is warm by now
            continue
        try:
            spent(subject, opened(variant, subject))
        except Exception as error:  # a peer that can not explain a model is a result
            if not variant.startswith(("torchcam", "captum", "grad-cam")):
                raise
            failed[variant] = f"{type(error).__name__}: {str(error).splitlines()[0][:80]}"
            del found[variant]
    begun, bars_begun = time.process_time(), None
    for round_ in range(MOST_ROUNDS):
        now = time.process_time()
        if bars_begun is None and round_ >= LEAST_ROUNDS and now - begun >= seconds / 2:
            bars_begun = now
        if bars_begun is not None and round_ >= LEAST_BAR_ROUNDS and now - bars_begun >= seconds / 2:
            break
        for variant, values in found.items():
            is_cheap = bars_begun is None and min(values, default=0.0) <= SLOW * min(found["plain"], default=0.0)
            if round_ < LEAST_ROUNDS or variant in barred or is_cheap:
                values.append(spent(subject, opened(variant, subject)))
    rounds = {variant: tuple(value / subject.batch for value in values) for variant, values in found.items()}
    return rounds | failed


def spent(subject: Subject, context: Opened) -> float:
    """Return the CPU seconds of one call; setting up a tool, and freeing what it keeps, are not part of them."""
    with context as call:
        start = time.process_time()
        call()
        seconds = time.process_time() - start
    del call, context
    subject.release()
    return seconds


def peaks(variants: Sequence[str], name: str, batch: int) -> dict[str, float | None]:
    """Return the peak resident size in MiB of each variant above the idle process, in fresh processes, two at a time.

    None where it does not run.
    """

    def peak(variant: str) -> float | None:
        command = [sys.executable, "-m", "benchmarks.explain", "one-peak", variant, name, str(batch)]
        outcome = subprocess.run(command, capture_output=True, text=True, check=False)
        return float(json.loads(outcome.stdout)) if outcome.returncode == 0 else None

    runs = [variant for variant in variants for _ in range(MEMORY_RUNS.get(variant, 1))]
    with ThreadPoolExecutor(MEMORY_PROCESSES) as pool:
        found = list(zip(runs, pool.map(peak, runs), strict=True))
    values = {variant: [value for ran, value in found if ran == variant and value is not None] for variant in variants}
    return {variant: median(some) if some else None for variant, some in values.items()}


@app.command(show=False)
def one_peak(variant: str, name: str, batch: int) -> None:
    """Measure one call in this process."""
    torch.set_num_threads(1)
    with opened(variant, Subject(name, batch)) as call:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak counts from here
        idle = resident("VmRSS")
        call()
        print(json.dumps((resident("VmHWM") - idle) / 1024))


def resident(size: str) -> int:
    """Return a size of this process in KiB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(size)).split()[1])


def score_cam(name: str, tools: Sequence[str]) -> Iterator[ScoreCam]:
    """Yield what Score-CAM of one image costs by each of ``tools``.

    In turns, with forwards of 16 on both sides of each call; and once as the first call of a process.
    """
    subject = Subject(name, 16)
    channels = subject.wrapped.anatomy.channels
    seconds: dict[str, list[float]] = {tool: [] for tool in tools}
    ratios: dict[tuple[str, str], list[float]] = {}
    for _ in range(LEAST_ROUNDS):
        for tool, values in seconds.items():
            before = forwards(subject)
            with redirect_stderr(StringIO()):  # a progress bar
                values.append(spent(subject, opened_score_cam(tool, subject)))
            after = forwards(subject)
            for baseline in BASELINES:  # machines change their pace
                forward = median(before[baseline] + after[baseline]) / subject.batch
                ratios.setdefault((tool, baseline), []).append(values[-1] / channels / forward)
    for tool, values in seconds.items():
        found = (tuple(ratios[tool, baseline]) for baseline in BASELINES)
        yield ScoreCam(name, tool, channels, first_score_cam(tool, name), median(values), *found)


def first_score_cam(tool: str, name: str) -> float:
    """Return the CPU seconds of Score-CAM of one image in a process that has not recorded a graph before."""
    command = [sys.executable, "-m", "benchmarks.explain", "one-score-cam", tool, name]
    return float(subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout)


@app.command(show=False)
def one_score_cam(tool: str, name: str) -> None:
    """Measure one Score-CAM in this process."""
    torch.set_num_threads(1)
    subject = Subject(name, 1)
    print(spent(subject, opened_score_cam(tool, subject)))


def forwards(subject: Subject) -> dict[str, list[float]]:
    """Return the CPU seconds of a few forwards of each baseline, in turns."""
    found: dict[str, list[float]] = {baseline: [] for baseline in BASELINES}
    for _ in range(LEAST_ROUNDS):
        for baseline, values in found.items():
            values.append(spent(subject, opened(baseline, subject)))
    return found


def measure(
    name: str, batch: int, variants: tuple[str, ...], seconds: float, memory_of: Sequence[str]
) -> Iterator[Row]:
    """Yield a row for each variant on one model and batch, with the memory of those in ``memory_of``."""
    found = times(Subject(name, batch), variants, seconds)
    held = peaks([variant for variant in variants if variant in memory_of], name, batch)
    for variant in variants:
        value, peak = found[variant], held.get(variant)
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
    bars: bool = False,
    minutes: float = 8.0,
    skip_memory: bool = False,
    score_cam_models: Annotated[Names, Parameter(name="--score-cam")] = ("mobilenet_v2",),
    skip_score_cam: bool = False,
    markdown: Path | None = None,
) -> None:
    """Print the tables and the bars; ``--markdown`` writes them to a file as well."""
    begun = time.monotonic()
    torch.set_num_threads(1)
    gc.freeze()  # what was imported is not looked through after each call
    share = 60 * minutes / (len(models) * len(batches))
    memory_variants = () if skip_memory else BAR_MEMORY_VARIANTS if bars else MEMORY_VARIANTS
    rows: list[Row] = []
    for name in models:
        for batch in batches:
            chosen = (*variants, *(barred_of(name) if bars else ())) or variants_of(name, batch)
            asked = tuple(dict.fromkeys((*BASELINES, *chosen)))
            part = list(measure(name, batch, asked, share, memory_variants if batch == max(batches) else ()))
            show(Figures(part).table(), f"{name}, batch {batch}")
            rows += part
    tools = () if skip_score_cam else BAR_SCORE_CAM_TOOLS if bars else SCORE_CAM_TOOLS
    score_cams_found = [item for name in score_cam_models for item in score_cam(name, tools)] if tools else []
    figures = Figures(rows, score_cams_found)
    if score_cams_found:
        show(figures.score_cam_table(), "Score-CAM of one image")
    show(figures.bar_table(), "bars")
    run = {"minutes": f"{(time.monotonic() - begun) / 60:.0f}", "gibibytes": f"{peak_gibibytes():.1f}"}
    console.print("{minutes} minutes, at most {gibibytes} GiB".format(**run))
    if markdown is not None:
        page = as_markdown(figures, ABOUT.format(**machine(), **run, draws=DRAWS), EXPLAINED, SCORE_CAM_EXPLAINED)
        with write_whole(markdown) as temporary:
            temporary.write_text(page, encoding="utf-8")


def peak_gibibytes() -> float:
    """Return the most that this process or one of its children has held."""
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(who).ru_maxrss for who in whose) / 2**20


def machine() -> dict[str, str]:
    """Return what the page says about the machine."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    return {
        "cpu": cpu,
        "torch": torch.__version__,
        "command": " ".join(["python -m benchmarks.explain", *sys.argv[1:]]),
    }


ABOUT = """One run of `{command}`: {minutes} minutes on {cpu}, one thread,
PyTorch {torch}, at most {gibibytes} GiB in one process. Random weights, 224 x 224. Rounds are interleaved, three at
least, nine of what bars hang on; a figure is the ratio of medians of process CPU time, its interval the middle 95
percent of {draws} draws of the rounds (of Score-CAM, the range of its calls). What a tool hooks into the model is there
during its own calls only; setting it up and freeing what it keeps are not measured. `plain` is the forward as a user
writes it, `inference` the leanest: the same under `inference_mode`. Memory is the peak resident size above the idle
process with its model, in fresh processes, over that of `inference`."""
EXPLAINED = """`dualcam K` explains K classes by Grad-CAM, `dualcam:METHOD 1` one class by another method; `optimized`
is the same with `dualcam.optimize`. `tail only K` is the least that gradients of K classes cost: a forward that records
from the tapped layer on, and its backward. `second head` is what a second branch costs by itself. `channels last` is
the plain forward with weights and images in that layout. Peers get the same layer."""
SCORE_CAM_EXPLAINED = """One image, every channel of its tapped layer; three calls of each tool in turns. A ratio is a
call's time over that of forwards of 16 images just before and after it: the median, and the range of the three. Batches
of 16 or 32 masked images, which the peers take, need layers of more than 32 MiB. A process that has recorded a whole
graph has memory for them at hand; one that has not, as when it only explains, gets it from the system anew for every
layer. `first call` is a call in a new process. dualcam takes six images at once there, and
sixteen where freed memory is kept."""


if __name__ == "__main__":
    app()
