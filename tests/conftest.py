"""What all tests share: one torch thread, repeatable property tests, and where the optional data lie."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings

os.environ["OMP_NUM_THREADS"] = "1"  # in started processes too: sums over other numbers of threads round differently
torch.set_num_threads(1)
settings.register_profile(
    "dualcam",
    max_examples=20,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("dualcam")

ROOT = Path(__file__).resolve().parents[1]


def optional_folder(variable: str, name: str) -> Path:
    """Return the folder that ``variable`` names, else ``../shared/NAME`` beside the repository; skip without both."""
    given = os.environ.get(variable)
    folder = Path(given) if given else ROOT.parent / "shared" / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent; set {variable} to the folder of the {name}")
    return folder


@pytest.fixture(scope="session")
def goldens_folder() -> Path:
    """The folder of the reference results (``DUALCAM_GOLDENS``)."""
    return optional_folder("DUALCAM_GOLDENS", "goldens")


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of the development data (``DUALCAM_DATA``)."""
    return optional_folder("DUALCAM_DATA", "data")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Make every connection attempt fail; returns the list of addresses that were tried."""
    tried: list[Any] = []

    def refuse(_socket: socket.socket, address: Any) -> None:
        tried.append(address)
        raise OSError(f"a test without network tried to reach {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *address, **_: refuse(None, address))  # type: ignore[arg-type]
    return tried


@pytest.fixture(autouse=True)
def _same_noise() -> None:
    torch.manual_seed(0)
