"""A trained classifier is a directory: ``classifier.json`` and ``weights.safetensors``, checked when loaded."""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dualcam.errors import CheckpointError
from dualcam.files import write_json, write_tensors

if TYPE_CHECKING:
    from torch import nn

    from dualcam.data.preprocessing import Preprocessing
    from dualcam.sources import Classifier

MANIFEST, WEIGHTS = "classifier.json", "weights.safetensors"
FORMAT = 1
FIELDS = ("source", "classes", "class_names", "preprocessing", "training", "digest")


def is_classifier(folder: Path) -> bool:
    """Whether ``folder`` holds a trained classifier."""
    return (folder.expanduser() / MANIFEST).is_file()


def save_classifier(
    folder: Path,
    module: "nn.Module",
    source: str,
    class_names: tuple[str, ...] | None,
    classes: int,
    preprocessing: "Preprocessing",
    record: dict[str, Any],
) -> None:
    """Write ``module``, made ready from the network called ``source``; the manifest comes last."""
    from dualcam.checkpoint import versions

    (folder / MANIFEST).unlink(missing_ok=True)
    write_tensors(folder / WEIGHTS, module.state_dict())
    content = {
        "format": FORMAT,
        "source": source,
        "classes": classes,
        "class_names": list(class_names) if class_names else None,
        "preprocessing": preprocessing.to_json(),
        "training": record,
        "digest": _digest(folder / WEIGHTS),
        "versions": versions(),
    }
    write_json(folder / MANIFEST, content)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the checked content of ``classifier.json``; raises `CheckpointError`."""
    path = folder / MANIFEST
    if not path.is_file():
        hint = "no trained classifier"
        if (folder / "state").is_dir():
            hint = "its training did not finish: run the same command with --resume"
        raise CheckpointError(f"{folder} has no {MANIFEST}: {hint}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        lost = [field for field in FIELDS if field not in content]
        known = content["format"] == FORMAT
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged ({error!r}); restore it or train again") from error
    if not known or lost:
        raise CheckpointError(f"{path} is damaged or of another version: format {content['format']}, lacks {lost}")
    return dict(content)


def load_classifier(folder: Path) -> "Classifier":
    """Load a trained classifier; raises `CheckpointError` where a file is not the one that was written."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from dualcam import sources
    from dualcam.classifier.network import make_ready
    from dualcam.data.preprocessing import Preprocessing

    content = read_manifest(folder)
    if not (folder / WEIGHTS).is_file() or _digest(folder / WEIGHTS) != content["digest"]:
        raise CheckpointError(
            f"{folder / WEIGHTS} is missing or is not the file that {MANIFEST} describes; restore it or train again"
        )
    module = sources.load(content["source"], sources.LoadOptions("random")).module
    preprocessing = Preprocessing.from_json(content["preprocessing"])
    make_ready(module, preprocessing.size, content["classes"], seed=0)
    try:
        module.load_state_dict(load_file(folder / WEIGHTS))
    except (SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"{folder / WEIGHTS} does not fit {content['source']}: {str(error)[:300]}") from error
    names = content["class_names"]
    return sources.Classifier(
        module.eval(), f"classifier:{folder.absolute()}", preprocessing, tuple(names) if names else None
    )


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
