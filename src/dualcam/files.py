"""Files are written whole or not at all."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dualcam.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor


@contextmanager
def write_whole(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; rename it into place if the block ends well, else remove it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.chmod(0o644)  # some writers make files that only their owner may read
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, whole or not at all."""
    with write_whole(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_tensors(path: Path, tensors: "dict[str, Tensor]") -> None:
    """Write ``tensors`` as safetensors, whole or not at all; raises `CheckpointError` where they can not be written."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with write_whole(path) as temporary:
        try:
            save_file({name: one.detach().cpu().contiguous().clone() for name, one in tensors.items()}, temporary)
        except SafetensorError as error:
            size = sum(one.numel() * one.element_size() for one in tensors.values()) / 1e6
            raise CheckpointError(
                f"{path} ({size:.1f} MB) can not be written: {error}; make room there, or choose another folder"
            ) from error
