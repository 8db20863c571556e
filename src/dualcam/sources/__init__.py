"""Where a classifier comes from: one file per source, found by listing this folder.

A source is a module with ``PREFIX`` (``timm`` for names such as ``timm:resnet50``) and
``load(name, options) -> Classifier``.
"""

import importlib
import pkgutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from torch import nn

from dualcam.data.preprocessing import Preprocessing
from dualcam.errors import ModelError, WeightsUnavailable


@dataclass(frozen=True)
class LoadOptions:
    """How to get weights: "pretrained" (from this machine, or downloaded if ``download``), "random", or a file."""

    weights: str = "pretrained"
    download: bool = False


@dataclass(frozen=True)
class Classifier:
    """A classifier as its source gives it; ``source`` names it so that a checkpoint can find it again.

    ``fresh`` are the paths of modules that have no pretrained weights, where the others have.
    """

    module: nn.Module
    source: str | None
    preprocessing: Preprocessing
    class_names: tuple[str, ...] | None
    fresh: tuple[str, ...] = ()


@cache
def prefixes() -> dict[str, Any]:
    """Return the source modules by prefix."""
    modules = [importlib.import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__)]
    return {module.PREFIX: module for module in modules}


def load(name: str, options: LoadOptions) -> Classifier:
    """Load the classifier called ``prefix:name``; raises `ModelError` naming the known prefixes."""
    prefix, colon, rest = name.partition(":")
    if not colon or prefix not in prefixes():
        known = ", ".join(f"{key}:NAME" for key in sorted(prefixes()))
        raise ModelError(
            f"model {name!r} is neither a directory that `dualcam train` wrote nor one of {known} "
            f"(such as timm:resnet50)"
        )
    classifier: Classifier = prefixes()[prefix].load(rest, options)
    return classifier


def load_weights_file(module: nn.Module, path: str) -> None:
    """Load a ``.safetensors`` file or a state dict (no pickled code) into ``module``; raises `WeightsUnavailable`."""
    import pickle

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = Path(path).expanduser()
    if not file.is_file():
        raise WeightsUnavailable(f"weights={path!r} is not a file; expected a path, 'pretrained' or 'random'")
    try:
        if file.suffix == ".safetensors":
            state = load_file(file)
        else:
            state = torch.load(file, map_location="cpu", weights_only=True)
        if isinstance(state, dict) and "state_dict" in state:
            state = state["state_dict"]
        module.load_state_dict(state)
    except (
        RuntimeError,
        pickle.UnpicklingError,
        SafetensorError,
        TypeError,
        KeyError,
        AttributeError,
        OSError,
    ) as error:
        raise WeightsUnavailable(f"the weights in {file} do not fit this model: {str(error)[:600]}") from error


def not_here(name: str, where: str) -> WeightsUnavailable:
    """Return the error for pretrained weights that are not on this machine."""
    return WeightsUnavailable(
        f"the pretrained weights of {name} are not on this machine (looked in {where}); allow the download "
        f"(download=True, --download), give a file (weights=PATH, --weights PATH), or take random ones for a "
        f"test (weights='random')"
    )
