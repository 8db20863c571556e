"""Files are written whole or not at all, and a disk that is full says so."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from dualcam.errors import CheckpointError
from dualcam.files import write_tensors


def test_tensors_are_read_as_they_were(tmp_path: Path) -> None:
    whole = torch.arange(6.0).reshape(2, 3)
    tensors = {"whole": whole, "part": whole[:, 1], "turned": whole.T.requires_grad_()}
    write_tensors(tmp_path / "new" / "tensors", tensors)
    found = load_file(tmp_path / "new" / "tensors")
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


def test_a_full_disk_leaves_the_file_before_and_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tensors"
    write_tensors(path, {"a": torch.zeros(2)})

    def full(_: Any, file: Path) -> None:
        file.write_bytes(b"begun")
        raise SafetensorError("Error while serializing: No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(CheckpointError, match=r"tensors \(4.0 MB\).*No space left.*make room"):
        write_tensors(path, {"a": torch.ones(1_000_000)})
    assert torch.equal(load_file(path)["a"], torch.zeros(2))
    assert [file.name for file in tmp_path.iterdir()] == ["tensors"]
