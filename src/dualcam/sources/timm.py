"""Models of timm: ``timm:resnet50``, ``timm:tf_efficientnet_lite0.in1k``."""

from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from dualcam.data.preprocessing import Preprocessing
from dualcam.errors import ModelError
from dualcam.sources import Classifier, LoadOptions, load_weights_file, not_here
from dualcam.sources.torchvision import imagenet_names

PREFIX = "timm"


def load(name: str, options: LoadOptions) -> Classifier:
    """Build the timm model ``name``; raises `ModelError` with near names, `WeightsUnavailable`."""
    if not timm.is_model(name):
        near = timm.list_models(f"*{name.partition('.')[0][:8]}*")[:6]
        raise ModelError(f"timm has no model {name!r}" + (f"; near names: {', '.join(near)}" if near else ""))
    pretrained = options.weights == "pretrained"
    if pretrained and not options.download and not _is_cached(name):
        raise not_here(f"timm:{name}", "the Hugging Face and torch hub caches")
    module = timm.create_model(name, pretrained=pretrained)
    if options.weights not in ("pretrained", "random"):
        load_weights_file(module, options.weights)
    return Classifier(module.eval(), f"timm:{name}", preprocessing_of(module), class_names_of(module))


def preprocessing_of(module: nn.Module) -> Preprocessing:
    """Return what timm's configuration of ``module`` says about its input."""
    config = timm.data.resolve_data_config({}, model=module)
    return Preprocessing(
        size=tuple(config["input_size"][1:]),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation=config["interpolation"] if config["interpolation"] != "random" else "bicubic",
        crop_share=float(config["crop_pct"]),
        origin="timm's configuration of the model",
    )


def class_names_of(module: Any) -> tuple[str, ...] | None:
    """Return label names of the model's configuration, or ImageNet's where it has 1000 classes."""
    config = getattr(module, "pretrained_cfg", {})
    if config.get("label_names"):
        return tuple(config["label_names"])
    return imagenet_names() if getattr(module, "num_classes", 0) == 1000 else None


def _is_cached(name: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    config = timm.get_pretrained_cfg(name)
    if config is None:
        raise ModelError(f"timm:{name} has no pretrained weights; pass weights=PATH or weights='random'")
    if config.hf_hub_id:
        for file in ("model.safetensors", "pytorch_model.bin"):
            if isinstance(try_to_load_from_cache(config.hf_hub_id, file), str):
                return True
    return bool(config.url) and (Path(torch.hub.get_dir()) / "checkpoints" / Path(config.url).name).is_file()
