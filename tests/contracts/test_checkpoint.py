"""A saved branch comes back as it was, or not at all and with the reason."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import dualcam
from dualcam import DualBranch, Preprocessing
from dualcam.errors import CheckpointError, DualcamError, ModelError, WeightsMismatch
from dualcam.types import HeadKind
from tests.models import CLASSES, KINDS, PREPROCESSING, images, maps, tiny, wrapped
from tests.observe import changed, snapshot

NAMES = ("ant", "bee", "cat", "dog", "eel")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A directory with a trained branch of a module in memory."""
    wrapped("mlp").save(tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize("activation", [nn.ReLU, nn.SiLU])
@pytest.mark.parametrize("kind", KINDS)
def test_round_trip(kind: HeadKind, activation: type[nn.Module], tmp_path: Path) -> None:
    model = wrapped(kind, activation)
    model.class_names = NAMES
    model.training_record = {"summary": "by hand", "epochs": 3}
    before = snapshot(model)
    model.save(tmp_path / "new" / "run")
    assert changed(before, snapshot(model)) == []
    files = {path.name for path in (tmp_path / "new" / "run").iterdir()}
    assert files == {"dualcam.json", "branch.safetensors"}

    for folder in (tmp_path / "new" / "run", str(tmp_path / "new" / "run")):
        again = dualcam.wrap(folder, backbone=tiny(kind, activation))
        with torch.no_grad():
            one, other = model(images()), again(images())
        assert torch.equal(one.softmax, other.softmax)
        assert torch.equal(one.sigmoid, other.sigmoid)
        assert not torch.equal(other.softmax, other.sigmoid)
        assert (again.class_names, again.training_record) == (NAMES, model.training_record)
        assert again.preprocessing == PREPROCESSING
        assert again.anatomy.nonnegative == model.anatomy.nonnegative
        assert again.anatomy.layer == model.anatomy.layer
        assert torch.equal(maps(again.explain(images(), "all")), maps(model.explain(images(), "all")))


def test_saving_again_replaces(saved: Path) -> None:
    model = wrapped("mlp")
    with torch.no_grad():
        for parameter in model.sigmoid_head.parameters():
            parameter.mul_(2)
    model.save(saved)
    again = dualcam.wrap(saved, backbone=tiny("mlp"))
    assert torch.equal(again(images()).sigmoid, model(images()).sigmoid)


def test_a_layer_and_layout_by_hand_come_back(tmp_path: Path) -> None:
    model = dualcam.wrap(tiny("mlp"), layer="features.3", preprocessing=PREPROCESSING, nonnegative=True)
    model.save(tmp_path)
    again = dualcam.wrap(tmp_path, backbone=tiny("mlp"))
    assert (again.anatomy.layer, again.anatomy.nonnegative) == ("features.3", True)


def test_a_named_model_is_found_by_its_name(tmp_path: Path) -> None:
    weights = tmp_path / "weights.pt"
    torch.manual_seed(0)
    model = dualcam.wrap("timm:mobilenetv3_small_050", weights="random")
    torch.save(model.classifier.state_dict(), weights)
    model.save(tmp_path / "run")
    again = dualcam.wrap(tmp_path / "run", weights=str(weights))
    pixels = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        assert torch.equal(again(pixels).softmax, model(pixels).softmax)
    assert again.source == "timm:mobilenetv3_small_050"
    with pytest.raises(WeightsMismatch, match="timm:mobilenetv3_small_050"):
        dualcam.wrap(tmp_path / "run", weights="random")


def change_parameter(module: nn.Module) -> None:
    with torch.no_grad():
        next(module.parameters()).flatten()[0] += 1e-3


def change_statistics(module: nn.Module) -> None:
    next(value for name, value in module.named_buffers() if "running_mean" in name).add_(1e-3)


@pytest.mark.parametrize("change", [change_parameter, change_statistics, nn.Module.float])
def test_other_weights_are_refused(saved: Path, change: Callable[[nn.Module], Any]) -> None:
    backbone = tiny("mlp")
    change(backbone)
    with pytest.raises(WeightsMismatch, match=r"trained for other weights.*fingerprint [0-9a-f]{8}"):
        dualcam.wrap(saved, backbone=backbone)


def test_another_architecture_is_refused(saved: Path) -> None:
    with pytest.raises(WeightsMismatch):
        dualcam.wrap(saved, backbone=tiny("pooled-linear"))


def test_without_a_name_the_backbone_is_asked_for(saved: Path) -> None:
    with pytest.raises(ModelError, match=r"module in memory.*backbone=module"):
        dualcam.wrap(saved)


def test_what_a_directory_brings_can_not_be_given(saved: Path) -> None:
    given: list[dict[str, Any]] = [
        {"layer": "features"},
        {"head": nn.Identity()},
        {"layout": "NCHW"},
        {"nonnegative": True},
        {"class_names": NAMES},
        {"preprocessing": Preprocessing(size=(8, 8))},
    ]
    for arguments in given:
        with pytest.raises(ModelError, match=rf"{next(iter(arguments))} can not be given for the directory"):
            dualcam.wrap(saved, backbone=tiny("mlp"), **arguments)


def test_a_backbone_needs_a_directory() -> None:
    with pytest.raises(ModelError, match="backbone="):
        dualcam.wrap(tiny("mlp"), backbone=tiny("mlp"), preprocessing=PREPROCESSING)


def edit(folder: Path, **fields: Any) -> None:
    file = folder / "dualcam.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


def drop(folder: Path, field: str) -> None:
    file = folder / "dualcam.json"
    content = json.loads(file.read_text())
    del content[field]
    file.write_text(json.dumps(content))


def empty(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


def unfinish(folder: Path) -> None:
    (folder / "dualcam.json").unlink()
    (folder / "state").mkdir()


def flip_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)


FIELDS = ("backbone", "anatomy", "head", "preprocessing", "files", "class_names", "source")
DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no manifest": (lambda run: (run / "dualcam.json").unlink(), r"has no dualcam\.json"),
    "empty manifest": (lambda run: (run / "dualcam.json").write_text(""), "is damaged"),
    "half a manifest": (lambda run: (run / "dualcam.json").write_text('{"format": 1, '), "is damaged"),
    "a list": (lambda run: (run / "dualcam.json").write_text("[1]"), "is damaged"),
    "no format": (lambda run: (run / "dualcam.json").write_text("{}"), "is damaged"),
    "binary manifest": (lambda run: (run / "dualcam.json").write_bytes(b"\xff\xfe\x00"), "is damaged"),
    "another format": (lambda run: edit(run, format=99), "format 99; this version of dualcam reads format 1"),
    "no branch": (lambda run: (run / "branch.safetensors").unlink(), r"branch\.safetensors is missing"),
    "cut branch": (lambda run: (run / "branch.safetensors").write_bytes(b"12"), r"not the file that dualcam\.json"),
    "one bit of the branch": (lambda run: flip_byte(run / "branch.safetensors"), r"not the file that dualcam\.json"),
    "an empty directory": (empty, r"has no dualcam\.json: no checkpoint"),
    "an unfinished training": (
        unfinish,
        "did not finish.*--resume",
    ),
    **{
        f"no {field}": (lambda run, field=field: drop(run, field), f"is damaged.*{field}")  # type: ignore[misc]
        for field in FIELDS
    },
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named(saved: Path, kind: str) -> None:
    deed, message = DAMAGE[kind]
    deed(saved)
    with pytest.raises(CheckpointError, match=message) as raised:
        dualcam.wrap(saved, backbone=tiny("mlp"))
    assert isinstance(raised.value, DualcamError)
    assert str(saved) in str(raised.value)


def test_a_branch_of_another_shape_is_named(saved: Path, tmp_path: Path) -> None:
    """Files of another run, digests and all, under the same backbone."""
    other = tmp_path / "other"
    wrapped("pooled-linear").save(other)
    shutil.copy(other / "branch.safetensors", saved / "branch.safetensors")
    edit(saved, files=json.loads((other / "dualcam.json").read_text())["files"])
    with pytest.raises(CheckpointError, match="does not fit the head"):
        dualcam.wrap(saved, backbone=tiny("mlp"))


def test_a_failed_save_is_no_checkpoint(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The manifest goes first and comes last: a save that breaks never leaves two halves that look whole."""

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("dualcam.checkpoint.write_tensors", fail)
    with pytest.raises(OSError, match="disk full"):
        wrapped("mlp").save(saved)
    with pytest.raises(CheckpointError, match=r"has no dualcam\.json"):
        dualcam.wrap(saved, backbone=tiny("mlp"))
    assert not [path.name for path in saved.iterdir() if path.name.endswith(".part")]


def test_loading_leaves_the_backbone_as_it_was(saved: Path) -> None:
    backbone = tiny("mlp").train()
    before = snapshot(backbone)
    model: DualBranch = dualcam.wrap(saved, backbone=backbone)
    assert changed(before, snapshot(backbone)) == []
    assert model.classes == CLASSES
    assert model.classifier is backbone


def test_a_branch_of_a_model_loaded_in_inference_mode_can_be_explained(saved: Path) -> None:
    backbone = tiny("mlp")
    with torch.inference_mode():
        model = dualcam.wrap(saved, backbone=backbone)
    expected = maps(wrapped("mlp").explain(images(), "all"))
    assert torch.equal(maps(model.explain(images(), "all")), expected)
