"""`dualcam train-classifier`: a network and labelled photos to a softmax classifier."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from dualcam.classifier.settings import ClassifierSettings
from dualcam.training.launch import LaunchOptions


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """Which network."""

    model: Annotated[str, Parameter(name=["--model", "-m"])]
    """torchvision:NAME, timm:NAME; wsol:resnet50-28, wsol:vgg16-14, wsol:inception_v3-28 (the localization
    literature's, with a last stage of 14 or 28 cells); or a directory that this command wrote."""

    weights: str = "pretrained"
    """"pretrained", "random", or a file (.safetensors, or a state dict without pickled code)."""

    download: Annotated[bool, Parameter(negative="")] = False
    """Allow the download of pretrained weights."""

    size: int | None = None
    """Side of the input in pixels (default: the network's own)."""

    device: str = "auto"
    """cpu, cuda, cuda:1, mps; auto takes an accelerator where there is one."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ClassifierRunOptions:
    """Where things are kept, and how a run goes on."""

    split: str | None = None
    """Split to train on, where the data has splits (default: train)."""

    workers: int = 0
    """Processes that decode photos, for each process of the run; 0: that one."""

    resume: Annotated[bool, Parameter(negative="")] = False
    """Go on with the run in --out."""

    overwrite: Annotated[bool, Parameter(negative="")] = False
    """Replace the run in --out."""


def train_classifier(
    data: Annotated[Path, Parameter(help="Photos with labels; docs/datasets.md lists the layouts.")],
    /,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"], help="Directory for the classifier and its history.")],
    network: NetworkOptions,
    classifier: Annotated[ClassifierSettings, Parameter(name="*", negative="")] = ClassifierSettings(),  # noqa: B008
    processes: Annotated[LaunchOptions, Parameter(name="*")] = LaunchOptions(),  # noqa: B008
    run: ClassifierRunOptions = ClassifierRunOptions(),
) -> int:
    """Fine-tune a softmax classifier on image labels: the first stage, where no classifier has the data's classes.

    The result in --out is given as --model to the other commands; `dualcam train` adds the sigmoid branch.
    """
    from dualcam.classifier.fit import fit_classifier
    from dualcam.cli.options import pick_device
    from dualcam.progress import console
    from dualcam.training.launch import launch
    from dualcam.training.report import TerminalReporter

    shares = launch(processes, pick_device(network.device))
    fit_classifier(
        network.model,
        data,
        out,
        classifier,
        split=run.split,
        weights=network.weights,
        download=network.download,
        size=network.size,
        processes=shares,
        workers=run.workers,
        resume=run.resume,
        overwrite=run.overwrite,
        reporter=TerminalReporter(),
    )
    if shares.is_first:
        console.print(f"classifier in {out}; try: dualcam train {data} --model {out} -o BRANCH", highlight=False)
    return 0


COMMAND = train_classifier
