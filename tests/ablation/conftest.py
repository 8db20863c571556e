"""A tiny classifier, and photos with boxes and masks in train and in test."""

from pathlib import Path

import pytest
import torch

import dualcam
from dualcam.model import DualBranch
from tests.models import CLASSES, PREPROCESSING, tiny
from tests.photos_on_disk import write_boxed


@pytest.fixture
def model() -> DualBranch:
    return dualcam.wrap(tiny("pooled-linear", dtype=torch.float32), preprocessing=PREPROCESSING)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The model's classes, six photos each in train and two in test."""
    write_boxed(tmp_path / "data", CLASSES)
    return tmp_path / "data"


@pytest.fixture(autouse=True)
def _no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """The history's plot is tested where training is; here it would be most of the time."""
    monkeypatch.setattr("dualcam.training.run.write_plot", lambda path, history: None)
