"""What a run needs to go on after a kill: tensors of the last epoch, and a JSON that points to them."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from safetensors.torch import load_file
from torch import Tensor

from dualcam.errors import CheckpointError
from dualcam.files import write_json, write_tensors

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

FOLDER = "state"
Row = TypeVar("Row", bound="DataclassInstance")


@dataclass(frozen=True)
class RunState(Generic[Row]):
    """Tensors after ``len(history)`` epochs, the history so far, and whether the solver has converged."""

    tensors: dict[str, Tensor]
    history: tuple[Row, ...]
    converged: bool


def save_state(out: Path, identity: dict[str, Any], state: RunState[Row]) -> None:
    """Write the state; the JSON is replaced last, so that a kill leaves this state or the one before."""
    folder = out / FOLDER
    name = f"epoch-{len(state.history):04d}.safetensors"
    write_tensors(folder / name, state.tensors)
    content = {"identity": identity, "tensors": name, "converged": state.converged}
    write_json(folder / "state.json", {**content, "history": [asdict(row) for row in state.history]})
    for old in folder.glob("epoch-*.safetensors"):
        if old.name != name:
            old.unlink(missing_ok=True)


def load_state(out: Path, identity: dict[str, Any], row: type[Row]) -> RunState[Row] | None:
    """Return the state in ``out``, None where there is none; ``row`` is the type of the history's lines.

    Raises `CheckpointError` that names the settings in which the earlier run differs from ``identity``.
    """
    path = out / FOLDER / "state.json"
    if not path.is_file():
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    before = content["identity"]
    now = json.loads(json.dumps(identity))
    differing = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
    if differing:
        changes = "; ".join(f"{key}: {before.get(key)!r} then, {now.get(key)!r} now" for key in differing)
        raise CheckpointError(
            f"the run in {out} can not be resumed with other settings ({changes}); start over with --overwrite"
        )
    history = tuple(row(**fields) for fields in content["history"])
    return RunState(load_file(path.parent / content["tensors"]), history, content["converged"])


def remove_state(out: Path) -> None:
    """Remove the state of a finished run."""
    import shutil

    shutil.rmtree(out / FOLDER, ignore_errors=True)
