"""A checkpoint is a directory: ``dualcam.json`` and safetensors; written whole or not at all, checked when loaded.

``dualcam.json`` is written last and carries the digests of the other files, so a directory without it, or with files
of another run, is not taken for a checkpoint.
"""

import hashlib
import json
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from dualcam import sources
from dualcam.adapter import Adapter
from dualcam.data.preprocessing import Preprocessing
from dualcam.errors import CheckpointError, ModelError, WeightsMismatch
from dualcam.examine import examine
from dualcam.files import write_json, write_tensors
from dualcam.heads import Head
from dualcam.model import DualBranch
from dualcam.sources import Classifier, LoadOptions

DEFAULT = Path(__file__).parent / "assets" / "efficientnet-lite0"
MANIFEST = "dualcam.json"
FORMAT = 1
FIELDS = ("source", "backbone", "anatomy", "head", "class_names", "preprocessing", "training", "files")


def fingerprint(module: nn.Module) -> str:
    """Return a digest of every parameter and buffer of ``module``: names, types, shapes, bytes."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def save(
    model: DualBranch, directory: str | PathLike[str], *, record: dict[str, Any] | None = None, half: bool = False
) -> None:
    """Write the sigmoid head (and the fitted head) of ``model`` with all that is needed to find the rest again.

    ``record`` says how it was trained (default: what the model says of itself). ``half`` stores the sigmoid head in
    16 bits. The wrapped classifier's own weights are not written: they are named and fingerprinted.
    """
    if model.optimization is not None:
        raise ModelError(
            "an optimized copy holds other weights than the model's own; save the model that it was made of"
        )
    folder = Path(directory)
    record = record if record is not None else model.training_record
    (folder / MANIFEST).unlink(missing_ok=True)
    files = {"branch.safetensors": _save_head(model.sigmoid_head, folder / "branch.safetensors", half=half)}
    if model.fitted_head is not None:
        files["head.safetensors"] = _save_head(model.fitted_head, folder / "head.safetensors", half=False)
    anatomy = model.anatomy
    manifest = {
        "format": FORMAT,
        "source": model.source,
        "backbone": fingerprint(model.classifier),
        "anatomy": {
            "layer": anatomy.layer,
            "layout": anatomy.layout,
            "grid": list(anatomy.grid),
            "nonnegative": anatomy.nonnegative,
        },
        "head": {
            "kind": model.softmax_head.kind,
            "classes": model.classes,
            "fitted": model.fitted_head is not None,
            "outputs": model.outputs,
        },
        "class_names": list(model.class_names) if model.class_names else None,
        "preprocessing": model.preprocessing.to_json(),
        "training": record,
        "files": files,
        "versions": versions(),
    }
    write_json(folder / MANIFEST, manifest)


def load(
    directory: Path,
    options: LoadOptions | None = None,
    *,
    backbone: nn.Module | None = None,
    adapter: Adapter | None = None,
) -> DualBranch:
    """Load a checkpoint directory; raises `CheckpointError` and `WeightsMismatch`.

    ``backbone`` is the classifier where the branch was trained for a module in memory, which has no name to be found
    by; it may also stand in for a named one. ``adapter`` is how it is called, where that is not with images alone.
    """
    folder = directory.expanduser()
    manifest = read_manifest(folder)
    classifier = _classifier(manifest, folder, options or LoadOptions(), backbone)
    if fingerprint(classifier.module) != manifest["backbone"]:
        raise WeightsMismatch(
            f"the branch in {folder} was trained for other weights of {manifest['source'] or 'its backbone'} "
            f"(fingerprint {manifest['backbone'][:8]}); load those weights, or train the branch again"
        )
    parts = manifest["anatomy"]
    preprocessing = Preprocessing.from_json(manifest["preprocessing"])
    grid = parts.get("grid")
    anatomy = examine(
        classifier.module,
        preprocessing.size,
        layer=parts["layer"],
        grid=(grid[0], grid[1]) if grid else None,
        nonnegative=parts["nonnegative"],
        adapter=adapter,
    )
    names = manifest["class_names"]
    fitted = None
    if manifest["head"]["fitted"]:
        fitted = Head.pooled_linear(nn.Linear(anatomy.channels, manifest["head"]["classes"]))
        fitted.to(next(classifier.module.parameters()).device)
        _load_head(fitted, folder, "head.safetensors", manifest)
    model = DualBranch(
        classifier.module,
        anatomy,
        preprocessing,
        class_names=tuple(names) if names else None,
        source=manifest["source"],
        fitted_head=fitted,
        outputs=manifest["head"].get("outputs", "softmax"),  # checkpoints of 0.1.0 do not say
        adapter=adapter,
    )
    _load_head(model.sigmoid_head, folder, "branch.safetensors", manifest)
    model.training_record = manifest["training"]
    return model


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the checked content of ``dualcam.json``; raises `CheckpointError`."""
    path = folder / MANIFEST
    if not path.is_file():
        unfinished = (folder / "state").is_dir()
        hint = "its training did not finish: run the same command with --resume" if unfinished else "no checkpoint"
        raise CheckpointError(f"{folder} has no {MANIFEST}: {hint}")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    if not isinstance(manifest, dict) or "format" not in manifest:
        raise CheckpointError(f"{path} is damaged: expected an object with a 'format'; restore it or train again")
    if manifest["format"] != FORMAT:
        version = manifest["format"]
        raise CheckpointError(f"{path} has format {version}; this version of dualcam reads format {FORMAT}")
    lost = [field for field in FIELDS if field not in manifest]
    if lost:
        raise CheckpointError(f"{path} is damaged: no {', '.join(map(repr, lost))}; restore it or train again")
    return manifest


def versions() -> dict[str, str]:
    """Return the versions of the packages that a result depends on."""
    from importlib.metadata import version

    return {name: version(name) for name in ("dualcam", "torch", "torchvision", "timm", "numpy", "pillow")}


def _classifier(manifest: dict[str, Any], folder: Path, options: LoadOptions, backbone: nn.Module | None) -> Classifier:
    if backbone is not None:
        return Classifier(backbone, manifest["source"], Preprocessing.from_json(manifest["preprocessing"]), None)
    if manifest["source"] is None:
        raise ModelError(
            f"the branch in {folder} was trained for a module in memory; give it: "
            f"dualcam.wrap({str(folder)!r}, backbone=module)"
        )
    return sources.load(manifest["source"], options)


def _save_head(head: Head, path: Path, *, half: bool) -> str:
    state: dict[str, Tensor] = {}
    for name, tensor in head.state_dict().items():
        stored = tensor.detach().cpu().contiguous()
        state[name] = stored.half() if half and stored.is_floating_point() else stored
    write_tensors(path, state)
    return _digest(path)


def _load_head(head: Head, folder: Path, name: str, manifest: dict[str, Any]) -> None:
    path = folder / name
    if not path.is_file() or _digest(path) != manifest["files"].get(name):
        raise CheckpointError(
            f"{path} is missing or is not the file that {MANIFEST} describes; restore it or train again"
        )
    try:
        head.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"{path} does not fit the head: {str(error)[:300]}") from error


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
