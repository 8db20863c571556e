"""`wrap`: any classifier to a `DualBranch`."""

from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from dualcam import sources
from dualcam.adapter import Adapter
from dualcam.classifier.checkpoint import is_classifier
from dualcam.data.preprocessing import Preprocessing
from dualcam.errors import ModelError, check_choice
from dualcam.examine import examine
from dualcam.model import DualBranch
from dualcam.sources import Classifier, LoadOptions
from dualcam.types import Layout, Outputs


def wrap(
    model: nn.Module | str | PathLike[str] | None = None,
    *,
    layer: str | None = None,
    head: nn.Module | None = None,
    layout: Layout | None = None,
    grid: tuple[int, int] | None = None,
    nonnegative: bool | None = None,
    preprocessing: Preprocessing | None = None,
    class_names: Sequence[str] | None = None,
    outputs: Outputs | None = None,
    weights: str = "pretrained",
    download: bool = False,
    backbone: nn.Module | None = None,
    forward: Callable[[nn.Module, Tensor], Any] | None = None,
    scores: Callable[[Any], Tensor] | None = None,
) -> DualBranch:
    """Wrap a classifier; nothing about it is changed. Of what `torch.compile` returned, the module below is wrapped.

    ``model``: a module; "timm:NAME", "torchvision:NAME", "hf:NAME"; a directory that `dualcam train`, `dualcam
    train-classifier` or `DualBranch.save` wrote; or None for the EfficientNet-Lite0 that comes with dualcam, with its
    trained branch.

    What is found by a probe forward can be given by hand: ``layer``, the path of the module whose output is the last
    spatial activations; ``head``, a module that maps them [B, D, h, w] to the logits; ``layout`` of that output;
    ``grid`` (h, w) of its cells, where that output is tokens; ``nonnegative``, whether the activations are >= 0;
    ``preprocessing``; ``class_names``. ``outputs="sigmoid"`` says that the model's labels do not exclude each other
    (a multi-label classifier; default "softmax"). ``weights`` is
    "pretrained", "random" or a file; nothing is downloaded unless ``download``. ``backbone`` gives the module for a
    directory whose model was trained from a module in memory.

    A model of another interface needs an adapter: ``forward`` (module, images) -> output calls it, where images
    [B, 3, H, W] alone are not its arguments; ``scores`` output -> logits [B, C] finds the logits in what it returns,
    where they are not the output, its ``.logits`` or its first tensor.

    Raises `ModelError` and its kin: unknown names, weights not on this machine, structures not found, a checkpoint
    that belongs to other weights.
    """
    from dualcam import checkpoint

    check_choice("outputs", outputs, (None, "softmax", "sigmoid"))
    adapter = Adapter(forward, scores)
    given: dict[str, object] = {
        "layer": layer,
        "head": head,
        "layout": layout,
        "grid": grid,
        "nonnegative": nonnegative,
    }
    options = LoadOptions(weights, download)
    if model is None:
        model = checkpoint.DEFAULT
    if isinstance(model, str | PathLike) and is_classifier(Path(model)):
        model = f"classifier:{Path(model)}"
    if isinstance(model, PathLike) or (isinstance(model, str) and _is_directory(model)):
        given |= {"preprocessing": preprocessing, "class_names": class_names, "outputs": outputs}
        by_hand = [name for name, value in given.items() if value is not None]
        if by_hand:
            raise ModelError(f"{', '.join(by_hand)} can not be given for the directory {model}; it brings its own")
        return checkpoint.load(Path(model), options, backbone=backbone, adapter=adapter)
    if backbone is not None:
        raise ModelError("backbone= goes with a directory that `DualBranch.save` wrote; a module itself is model=")
    if type(model).__name__ == "OptimizedModule":  # the type is not at hand where torch.compile was not used
        model = getattr(model, "_orig_mod", model)
    if isinstance(model, nn.Module):
        classifier = _from_module(model)
    elif isinstance(model, str):
        classifier = sources.load(model, options)
    else:
        raise ModelError(f"model must be a torch.nn.Module, a name or a directory; got {type(model).__name__}")
    preprocessing = preprocessing or classifier.preprocessing
    anatomy = examine(
        classifier.module,
        preprocessing.size,
        layer=layer,
        head=head,
        layout=layout,
        grid=grid,
        nonnegative=nonnegative,
        adapter=adapter,
    )
    names = tuple(map(str, class_names)) if class_names is not None else classifier.class_names
    if names is not None and len(names) != anatomy.head.classes:
        if class_names is not None:
            raise ModelError(f"class_names has {len(names)} names; the model has {anatomy.head.classes} classes")
        names = None
    return DualBranch(
        classifier.module,
        anatomy,
        preprocessing,
        class_names=names,
        source=classifier.source,
        outputs=outputs or "softmax",
        adapter=adapter,
    )


def _is_directory(name: str) -> bool:
    return bool(name) and Path(name).expanduser().is_dir()


def _from_module(module: nn.Module) -> Classifier:
    """Read preprocessing and class names off a module in memory, as far as its library left them there."""
    if isinstance(module, DualBranch):
        raise ModelError("this model is wrapped already")
    if hasattr(module, "pretrained_cfg"):
        from dualcam.sources.timm import class_names_of, preprocessing_of

        return Classifier(module, None, preprocessing_of(module), class_names_of(module))
    if hasattr(module, "config") and hasattr(module.config, "id2label"):
        from dualcam.sources import huggingface

        return Classifier(module, None, huggingface.preprocessing_of_config(module), huggingface.class_names_of(module))
    size = (299, 299) if type(module).__name__ == "Inception3" else (224, 224)
    origin = "assumed: ImageNet mean and deviation; pass preprocessing= if the model was trained otherwise"
    return Classifier(module, None, Preprocessing(size=size, origin=origin), None)
