"""Raw maps against the papers' formulas and against other libraries, on two fixed networks, in float64."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import dualcam
from dualcam import DualBranch, Preprocessing

# Method, sign, and the name of the same map in the reference file.
PAPERS = {
    "tiny": [
        ("cam", "signed", "ref/CAM"),
        ("grad-cam", "signed", "ref/GradCAM"),
        ("xgrad-cam", "signed", "ref/XGradCAM"),
        ("layer-cam", "signed", "ref/HiResCAM"),
        ("layer-cam", "positive", "ref/LayerCAM"),
        ("grad-cam++", "positive", "ref/GradCAM++"),
        ("hirescam", "signed", "ref/HiResCAM"),
        ("eigen-cam", "signed", "ref/EigenCAM"),
    ],
    "smallvgg": [
        ("grad-cam", "signed", "ref/GradCAM"),
        ("xgrad-cam", "signed", "ref/XGradCAM"),
        ("layer-cam", "signed", "ref/HiResCAM"),
        ("layer-cam", "positive", "ref/LayerCAM"),
        ("grad-cam++", "positive", "ref/GradCAM++"),
        ("hirescam", "signed", "ref/HiResCAM"),
        ("eigen-cam", "signed", "ref/EigenCAM"),
    ],
}
# Where the libraries are right. Their Grad-CAM++ is another formula: see `test_known_faults_of_others`.
LIBRARIES = {
    "tiny": [
        ("cam", "signed", "tc/CAM/raw"),
        ("grad-cam", "signed", "tc/GradCAM/raw"),
        ("grad-cam", "signed", "pgc/GradCAM/raw"),
        ("grad-cam", "signed", "captum/LayerGradCam/raw"),
        ("xgrad-cam", "signed", "tc/XGradCAM/raw"),
        ("xgrad-cam", "signed", "pgc/XGradCAM/raw"),
        ("layer-cam", "positive", "tc/LayerCAM/raw"),
        ("layer-cam", "positive", "pgc/LayerCAM/raw"),
        ("layer-cam", "signed", "pgc/HiResCAM/raw"),
        ("hirescam", "signed", "pgc/HiResCAM/raw"),
    ],
    "smallvgg": [
        ("grad-cam", "signed", "tc/GradCAM/raw"),
        ("grad-cam", "signed", "pgc/GradCAM/raw"),
        ("grad-cam", "signed", "captum/LayerGradCam/raw"),
        ("xgrad-cam", "signed", "tc/XGradCAM/raw"),
        ("xgrad-cam", "signed", "pgc/XGradCAM/raw"),
        ("layer-cam", "positive", "tc/LayerCAM/raw"),
        ("layer-cam", "positive", "pgc/LayerCAM/raw"),
        ("layer-cam", "signed", "pgc/HiResCAM/raw"),
        ("hirescam", "signed", "pgc/HiResCAM/raw"),
    ],
}


class TinyNet(nn.Module):
    """conv-bn-relu-pool-conv-relu, mean, fc."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(8)
        self.pool = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(8, 12, 3, padding=1)
        self.relu = nn.ReLU()
        self.fc = nn.Linear(12, 5)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.pool(torch.relu(self.bn1(self.conv1(images))))
        logits: Tensor = self.fc(self.relu(self.conv2(hidden)).mean((2, 3)))
        return logits


class SmallVgg(nn.Module):
    """Three convolutions, flatten, two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(16, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(24, 32, 3, padding=1), nn.ReLU()),
        )
        self.classifier = nn.Sequential(nn.Linear(2048, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(images).flatten(1))
        return logits


class Case:
    """A fixed network, wrapped in float64, with its reference arrays."""

    def __init__(self, folder: Path, name: str) -> None:
        with np.load(folder / f"{name}.npz") as file:
            self.arrays: dict[str, NDArray[Any]] = {key: file[key] for key in file.files}
        self.classes = torch.tensor(json.loads(str(self.arrays["meta"]))["classes"])
        classifier = TinyNet() if name == "tiny" else SmallVgg()
        state = {key[6:]: torch.from_numpy(value) for key, value in self.arrays.items() if key.startswith("param/")}
        classifier.load_state_dict(state)
        self.images = torch.from_numpy(self.arrays["input"]).double()
        size = (self.images.shape[2], self.images.shape[3])
        self.model: DualBranch = dualcam.wrap(classifier.double().eval(), preprocessing=Preprocessing(size=size))

    def raw(self, method: str, **options: Any) -> NDArray[np.float64]:
        """Return the raw maps [B, h, w] of each image's class."""
        explained = self.model.explain(self.images, self.classes, method=method, **options)
        maps: NDArray[np.float64] = torch.stack([item.raw[0] for item in explained]).numpy()
        return maps


@pytest.fixture(scope="module", params=["tiny", "smallvgg"])
def case(request: pytest.FixtureRequest, goldens_folder: Path) -> Iterator[Case]:
    """Each network in turn."""
    yield Case(goldens_folder, request.param)


def error(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """Return the largest difference over the reference's largest absolute value."""
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def test_the_networks_are_the_ones_of_the_references(case: Case) -> None:
    with torch.no_grad():
        logits = case.model(case.images)
        activations = case.model.activations(case.images)
    assert error(logits.softmax.numpy(), case.arrays["logits"]) < 1e-5
    assert error(activations.numpy(), case.arrays["act"]) < 1e-5
    assert case.model.anatomy.nonnegative


@pytest.mark.parametrize("branch", ["softmax", "sigmoid"])
@pytest.mark.parametrize(("network", "method", "sign", "key"), [(n, *row) for n in PAPERS for row in PAPERS[n]])
def test_papers(goldens_folder: Path, network: str, method: str, sign: str, key: str, branch: str) -> None:
    case = Case(goldens_folder, network)
    expected = case.arrays[key]
    assert np.abs(expected).max() > 0
    assert error(case.raw(method, sign=sign, branch=branch), expected) < 1e-5


@pytest.mark.parametrize(("network", "method", "sign", "key"), [(n, *row) for n in LIBRARIES for row in LIBRARIES[n]])
def test_other_libraries(goldens_folder: Path, network: str, method: str, sign: str, key: str) -> None:
    case = Case(goldens_folder, network)
    ours = case.raw(method, sign=sign)
    if key.startswith("tc/") and method != "cam":  # torchcam's gradient maps are rectified after the sum
        ours = ours.clip(min=0)
    assert error(ours, case.arrays[key].astype(np.float64)) < 1e-5


def test_eigen_grad_cam_is_the_reference_s_up_to_the_sign_that_it_left_open(case: Case) -> None:
    ours, theirs = case.raw("eigen-grad-cam", sign="signed"), case.arrays["ref/EigenGradCAM"]
    evidence = case.raw("hirescam", sign="signed")
    for image in range(len(ours)):
        turned = theirs[image] * np.sign((theirs[image] * evidence[image]).sum())
        assert error(ours[image], turned) < 1e-5


def test_ablation_cam_is_the_reference_s_without_the_division_by_the_score(case: Case) -> None:
    """The references divide by the logit, so one of theirs is turned over where it is negative."""
    ours = case.raw("ablation-cam", sign="signed")
    logits = case.arrays["logits"][np.arange(len(case.classes)), case.classes.numpy()].astype(np.float64)
    assert (logits < 0).any()
    for key in ("ref/AblationCAM", "pgc/AblationCAM/raw"):
        assert error(ours / logits[:, None, None], case.arrays[key]) < 1e-5


def test_score_cam_is_the_reference_s_less_the_empty_image_s(case: Case) -> None:
    """The authors' code leaves out the paper's subtraction of the empty image's probability."""
    ours = case.raw("score-cam", sign="signed")
    with torch.no_grad():
        empty = case.model(torch.zeros_like(case.images)).softmax.softmax(1)
    base = empty.gather(1, case.classes.unsqueeze(1))[:, :, None].numpy()
    theirs = case.arrays["ref/ScoreCAM_prob_official"] - base * case.arrays["act"].astype(np.float64).sum(1)
    assert error(ours, theirs) < 1e-5


def test_known_faults_of_others(case: Case) -> None:
    """Their Grad-CAM++ is sum relu(g)^3 F up to scale, which ours must not be."""
    ours = case.raw("grad-cam++", sign="positive")
    theirs = case.arrays["tc/GradCAMpp/raw"].astype(np.float64)
    assert error(ours / ours.max(), theirs / theirs.max()) > 1e-3


def test_gradients(case: Case) -> None:
    """The reference's own gradients, put through the signed LayerCAM formula, give our map."""
    product = (case.arrays["grad"].astype(np.float64) * case.arrays["act"]).sum(1)
    assert error(case.raw("layer-cam", sign="signed"), product) < 1e-5
