"""Models of torchvision: ``torchvision:resnet50``, ``torchvision:vgg16``."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torchvision

from dualcam.data.preprocessing import Preprocessing
from dualcam.errors import ModelError
from dualcam.sources import Classifier, LoadOptions, load_weights_file, not_here

PREFIX = "torchvision"


def load(name: str, options: LoadOptions) -> Classifier:
    """Build the torchvision classifier ``name``; raises `ModelError` with near names, `WeightsUnavailable`."""
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        near = [item for item in known if item.startswith(name[:5])][:6] or known[:6]
        raise ModelError(f"torchvision has no classifier {name!r}; near names: {', '.join(near)}")
    default = torchvision.models.get_model_weights(name).DEFAULT
    pretrained = options.weights == "pretrained"
    if pretrained and not options.download:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        if not (folder / Path(default.url).name).is_file():
            raise not_here(f"torchvision:{name}", str(folder))
    # Without init_weights=False, Inception and GoogLeNet spend a minute on an initialisation nobody uses.
    extra: dict[str, Any] = {"init_weights": False} if name in ("inception_v3", "googlenet") and not pretrained else {}
    module = torchvision.models.get_model(name, weights=default if pretrained else None, **extra)
    if options.weights not in ("pretrained", "random"):
        load_weights_file(module, options.weights)
    names = tuple(default.meta["categories"])
    preprocessing = preprocessing_of(default)
    made_for = getattr(module, "image_size", None)  # ViTs take one size, and without weights it is the builder's
    if isinstance(made_for, int) and made_for != preprocessing.size[0]:
        preprocessing = replace(preprocessing, size=(made_for, made_for), origin="torchvision's builder of the model")
    return Classifier(module.eval(), f"torchvision:{name}", preprocessing, names)


def preprocessing_of(weights: Any) -> Preprocessing:
    """Return what the weights' own evaluation transform does."""
    transform = weights.transforms()
    size, resized = transform.crop_size[0], transform.resize_size[0]
    return Preprocessing(
        size=(size, size),
        mean=tuple(transform.mean),
        std=tuple(transform.std),
        interpolation=transform.interpolation.value,
        crop_share=size / resized,
        origin=f"torchvision's transforms of {weights}",
    )


@cache
def imagenet_names() -> tuple[str, ...]:
    """Return the names of ImageNet's 1000 classes in index order."""
    return tuple(torchvision.models.ResNet50_Weights.DEFAULT.meta["categories"])
