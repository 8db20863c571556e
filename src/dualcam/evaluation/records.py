"""One record of fixed size a photo, in one file: what was measured, to be summed, bootstrapped and resumed."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dualcam.errors import CheckpointError
from dualcam.evaluation.input_maps import TRIVIAL
from dualcam.evaluation.levels import CUTS
from dualcam.files import write_json
from dualcam.metrics.center_box import SHARES
from dualcam.metrics.localization import V1_DELTAS, V2_DELTAS
from dualcam.metrics.pixel_ap import BINS

PENDING, DONE, BROKEN = 0, 1, 2


def record_type(kinds: int, normalizations: int, *, masks: bool, fidelity: Sequence[str] = ()) -> np.dtype[np.void]:
    """Return the type of a record.

    ``rank`` of the label among the softmax logits (0 is Top-1, -1 not known); ``any`` whether the best of all contours
    reaches each IoU of `V2_DELTAS`, one bit a cut, ``largest`` whether the largest contour reaches 0.5; ``best`` the
    best IoU over cuts, ``fixed`` the largest contour's IoU at the fixed threshold; ``peak`` whether the peak lies in a
    true box; ``center`` the IoU of centre boxes; ``pixels`` counts of (background, foreground) pixels by score.

    ``fidelity`` are the values of the metrics of these names, in this order, NaN where not measured or not defined;
    ``trivial`` those of maps made without a look at the photo; ``explained`` the class and ``score`` its probability,
    which these are about.
    """
    cells = (kinds, normalizations)
    fields: list[Any] = [
        ("status", np.uint8),
        ("rank", np.int32),
        ("predicted", np.int32),
        ("any", np.uint8, (*cells, len(V2_DELTAS), CUTS // 8)),
        ("largest", np.uint8, (*cells, len(V1_DELTAS), CUTS // 8)),
        ("best", np.float32, cells),
        ("fixed", np.float32, cells),
        ("peak", np.uint8, cells),
        ("center", np.float32, (len(SHARES),)),
    ]
    if masks:
        fields.append(("pixels", np.uint16, (*cells, 2, BINS)))
    if fidelity:
        fields += [
            ("explained", np.int32),
            ("score", np.float32),
            ("fidelity", np.float32, (len(fidelity), *cells)),
            ("trivial", np.float32, (len(fidelity), len(TRIVIAL))),
        ]
    return np.dtype(fields)


def blank_record(kind: np.dtype[np.void]) -> NDArray[Any]:
    """Return a record in which nothing is measured yet."""
    record = np.zeros((), dtype=kind)
    if "fidelity" in (kind.names or ()):
        record["explained"] = -1
        record["score"] = record["fidelity"] = record["trivial"] = np.nan
    return record


class Records:
    """The records of N photos in ``folder``; a run of other settings raises `CheckpointError`.

    A record's status is written after the rest of it, so a killed run loses the photos in work and nothing else.
    """

    def __init__(self, folder: Path, run: dict[str, Any], kind: np.dtype[np.void], count: int) -> None:
        self.folder = folder
        file, settings = folder / "records.bin", folder / "run.json"
        folder.mkdir(parents=True, exist_ok=True)
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
