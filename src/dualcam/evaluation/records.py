"""One record of fixed size a photo, in one file: what was measured, to be summed, bootstrapped and resumed."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dualcam.errors import CheckpointError
from dualcam.evaluation.fields import STANDARD, added_fields
from dualcam.evaluation.input_maps import TRIVIAL
from dualcam.evaluation.localization import Field
from dualcam.files import write_json
from dualcam.metrics.center_box import SHARES

PENDING, DONE, BROKEN = 0, 1, 2


def record_type(kinds: int, normalizations: int, *, masks: bool, fidelity: Sequence[str] = ()) -> np.dtype[np.void]:
    """Return the type of a record.

    ``rank`` of the label among the softmax logits (0 is Top-1, -1 not known); ``center`` the IoU of centre boxes; what
    localization is made of is told in `fields`: of masks where all photos have them, last what metrics add.

    ``fidelity`` are the values of the metrics of these names, in this order, NaN where not measured or not defined;
    ``trivial`` those of maps made without a look at the photo; ``explained`` the class and ``score`` its probability,
    which these are about.
    """
    cells = (kinds, normalizations)

    def lie(field: Field) -> Any:
        return field.name, field.dtype, (*cells, *field.shape)

    fields: list[Any] = [
        ("status", np.uint8),
        ("rank", np.int32),
        ("predicted", np.int32),
        *(lie(field) for field in STANDARD if field.truth == "boxes"),
        ("center", np.float32, (len(SHARES),)),
    ]
    if masks:
        fields += [lie(field) for field in STANDARD if field.truth == "masks"]
    if fidelity:
        fields += [
            ("explained", np.int32),
            ("score", np.float32),
            ("fidelity", np.float32, (len(fidelity), *cells)),
            ("trivial", np.float32, (len(fidelity), len(TRIVIAL))),
        ]
    fields += [lie(field) for field in added_fields() if masks or field.truth != "masks"]
    return np.dtype(fields)


def fields_of(kind: np.dtype[np.void]) -> list[Field]:
    """Return what records of type ``kind`` hold of every map, for localization."""
    return [field for field in (*STANDARD, *added_fields()) if field.name in (kind.names or ())]


def blank_record(kind: np.dtype[np.void]) -> NDArray[Any]:
    """Return a record in which nothing is measured yet."""
    record = np.zeros((), dtype=kind)
    if "fidelity" in (kind.names or ()):
        record["explained"] = -1
        record["score"] = record["fidelity"] = record["trivial"] = np.nan
    for field in fields_of(kind):
        if field.blank:
            record[field.name] = field.blank
    return record


class Records:
    """The records of N photos in ``folder``; a run of other settings raises `CheckpointError`.

    A record's status is written after the rest of it, so a killed run loses the photos in work and nothing else.
    """

    def __init__(self, folder: Path, run: dict[str, Any], kind: np.dtype[np.void], count: int) -> None:
        self.folder = folder
        file, settings = folder / "records.bin", folder / "run.json"
        folder.mkdir(parents=True, exist_ok=True)
        added = [field.name for field in fields_of(kind) if field not in STANDARD]
        run = {**run, "added": added} if added else run
        if settings.exists() and file.exists():
            self._check(json.loads(settings.read_text(encoding="utf-8")), run)
            if file.stat().st_size != kind.itemsize * count:
                raise CheckpointError(f"{file} does not fit these settings; take another folder (-o), or --overwrite")
        else:
            file.unlink(missing_ok=True)
            write_json(settings, run)
            with file.open("wb") as stream:
                stream.truncate(kind.itemsize * count)
        self.rows: NDArray[Any] = np.memmap(file, dtype=kind, mode="r+", shape=(count,)) if count else np.zeros(0, kind)

    def pending(self) -> NDArray[np.int64]:
        """Return the photos that have no record; broken ones are tried again."""
        return np.flatnonzero(self.rows["status"] != DONE)

    def put(self, photo: int, record: NDArray[Any]) -> None:
        """Write a photo's record, whole."""
        self.rows[photo] = record
        self.rows["status"][photo] = DONE

    def fail(self, photo: int) -> None:
        """Note that a photo is broken."""
        self.rows["status"][photo] = BROKEN

    def _check(self, earlier: dict[str, Any], run: dict[str, Any]) -> None:
        known = json.loads(json.dumps(run))
        changed = [
            f"{key} was {earlier.get(key)!r}, now {known.get(key)!r}"
            for key in known
            if key not in {"versions", "command"} and earlier.get(key) != known.get(key)
        ]
        if changed:
            raise CheckpointError(
                f"{self.folder} holds an evaluation of other settings: {'; '.join(changed)}; take another folder (-o), "
                "or --overwrite it"
            )


def clear(folder: Path) -> None:
    """Remove an earlier evaluation in ``folder``, and nothing else."""
    for name in ("records.bin", "run.json"):
        (folder / name).unlink(missing_ok=True)


def select(rows: Sequence[int] | NDArray[np.int64], records: NDArray[Any]) -> NDArray[np.int64]:
    """Return those of ``rows`` that were measured."""
    chosen = np.asarray(rows, dtype=np.int64)
    kept: NDArray[np.int64] = chosen[records["status"][chosen] == DONE]
    return kept
