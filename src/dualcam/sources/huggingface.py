"""Image classifiers in the format of the Hugging Face hub: ``hf:microsoft/resnet-50``, ``hf:FOLDER`` (extra ``hf``)."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dualcam.data.preprocessing import Preprocessing
from dualcam.errors import ModelError
from dualcam.sources import Classifier, LoadOptions, load_weights_file, not_here

PREFIX = "hf"


def load(name: str, options: LoadOptions) -> Classifier:
    """Load the model ``name``; raises `ModelError` without the extra, `WeightsUnavailable`."""
    try:
        import transformers
    except ImportError as error:
        raise ModelError("hf: models need the package transformers; install dualcam[hf]") from error
    local = {"local_files_only": not options.download}
    with _silent(not options.download):
        try:
            if options.weights == "pretrained":
                module = transformers.AutoModelForImageClassification.from_pretrained(name, **local)
            else:
                config = transformers.AutoConfig.from_pretrained(name, **local)
                module = transformers.AutoModelForImageClassification.from_config(config)
        except OSError as error:
            raise not_here(f"hf:{name}", "the Hugging Face cache") from error
        if options.weights not in ("pretrained", "random"):
            load_weights_file(module, options.weights)
        return Classifier(module.eval(), f"hf:{name}", _preprocessing(name, module, local), class_names_of(module))


@contextmanager
def _silent(active: bool) -> Iterator[None]:
    """Keep huggingface_hub off the network: even for files on this machine it asks the hub for a list of agents."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or active
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def class_names_of(module: Any) -> tuple[str, ...] | None:
    """Return the configuration's label names in index order."""
    labels = getattr(getattr(module, "config", None), "id2label", None)
    return tuple(str(labels[index]) for index in range(len(labels))) if labels else None


def _preprocessing(name: str, module: Any, local: dict[str, bool]) -> Preprocessing:
    from huggingface_hub import hf_hub_download

    file = Path(name) / "preprocessor_config.json"
    try:
        path = (
            file
            if file.is_file()
            else Path(hf_hub_download(name, "preprocessor_config.json", local_files_only=local["local_files_only"]))
        )
    except (OSError, ValueError):
        return preprocessing_of_config(module)
    import json

    return preprocessing_from(json.loads(path.read_text(encoding="utf-8")))


def preprocessing_from(fields: dict[str, Any]) -> Preprocessing:
    """Return the preprocessing that a ``preprocessor_config.json`` describes."""
    size = fields.get("size", 224)
    edge = int(size.get("shortest_edge", 224)) if isinstance(size, dict) else int(size or 224)
    shape = (int(size.get("height", edge)), int(size.get("width", edge))) if isinstance(size, dict) else (edge, edge)
    resampling = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
    return Preprocessing(
        size=shape,
        mean=tuple(fields.get("image_mean", (0.5, 0.5, 0.5))),
        std=tuple(fields.get("image_std", (0.5, 0.5, 0.5))),
        interpolation=resampling.get(fields.get("resample", 2), "bilinear"),  # type: ignore[arg-type]
        crop_share=float(fields.get("crop_pct") or 1.0),
        origin="preprocessor_config.json",
    )


def preprocessing_of_config(module: Any) -> Preprocessing:
    """Return ImageNet's values at the configuration's image size: an assumption, and called one."""
    size = getattr(getattr(module, "config", None), "image_size", 224)
    height, width = (size, size) if isinstance(size, int) else tuple(size)
    return Preprocessing(size=(height, width), origin="assumed: ImageNet mean and deviation; pass preprocessing=")
