"""Options that several commands share."""

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from dualcam.types import Outputs

if TYPE_CHECKING:
    from dualcam.model import DualBranch

SEED = 0


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Which classifier."""

    model: Annotated[str | None, Parameter(name=["--model", "-m"])] = None
    """timm:NAME, torchvision:NAME, hf:NAME, or a directory that `dualcam train` wrote.
    Default: EfficientNet-Lite0 (ImageNet), which is installed with dualcam."""

    weights: str = "pretrained"
    """"pretrained", "random" (each time the same), or a file (.safetensors, or a state dict without pickled code)."""

    download: Annotated[bool, Parameter(negative="")] = False
    """Allow the download of pretrained weights."""

    layer: str | None = None
    """Path of the module whose output is the last spatial activations, where it is not found by itself."""

    outputs: Outputs | None = None
    """softmax, or sigmoid for a multi-label classifier: what makes probabilities of its logits (default: softmax, or
    what the directory says)."""

    device: str = "auto"
    """cpu, cuda, cuda:1, mps; auto takes an accelerator where there is one."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class FastModelOptions(ModelOptions):
    """Which classifier, for commands that look at many photos."""

    optimize: Annotated[bool, Parameter(negative="")] = False
    """Use a faster copy of the model, whose logits stay within 1e-4 of the model's; says what was done."""


def open_model(options: ModelOptions) -> "DualBranch":
    """Wrap the model of ``options`` on its device; raises `ModelError` and `ChoiceError`.

    Random weights are drawn by a fixed seed: the same command is about the same model, and can go on after a kill.
    What `dualcam.optimize` did, where it was asked for, goes to standard error.
    """
    import torch

    from dualcam.wrapper import wrap

    device = pick_device(options.device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = wrap(
            options.model,
            layer=options.layer,
            outputs=options.outputs,
            weights=options.weights,
            download=options.download,
        ).to(device)
    if not isinstance(options, FastModelOptions) or not options.optimize:
        return model
    from dualcam.acceleration.optimize import optimize

    fast = optimize(model)
    print(fast.optimization, file=sys.stderr)
    return fast


def pick_device(name: str) -> str:
    """Return a device that exists; raises `ChoiceError` naming those that do."""
    import torch

    from dualcam.errors import ChoiceError

    present = ["cpu"]
    if torch.cuda.is_available():
        present += ["cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        present.append("mps")
    if name == "auto":
        return present[1] if len(present) > 1 else "cpu"
    if name not in present:
        raise ChoiceError(f"--device {name} is not on this machine; choose one of auto, {', '.join(present)}")
    return name
