"""What a panel shows of one photo: small raw maps, before any scale is chosen; in memory, and in a file."""

import json
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dualcam.data.preprocessing import Placement
from dualcam.files import write_whole
from dualcam.results import ClassRecord
from dualcam.types import Box, Normalization


@dataclass(frozen=True)
class MapTile:
    """One map: raw values [h, w] at feature size, and how they are to be shown.

    ``signed`` maps are shown about zero, others as ``normalization`` says. Tiles of the same ``scale`` can share
    limits from photo to photo. ``empty`` is what stands on a map with nothing to show. ``unit`` is that of the values,
    where it is not the sheet's.
    """

    title: str
    scale: str
    values: NDArray[np.float32]
    signed: bool = False
    normalization: Normalization = "max"
    empty: str = "no positive evidence"
    box: Box | None = None
    unit: str | None = None


@dataclass(frozen=True)
class Row:
    """One class, or one branch's methods: a title, numbers, maps."""

    title: str
    numbers: str
    tiles: tuple[MapTile, ...]


@dataclass(frozen=True)
class Sheet:
    """All of one panel: the photo (small), where it lies in the model's input, rows by class, rows to compare."""

    photo: str
    picture: Image.Image
    placement: Placement
    classes: tuple[ClassRecord, ...]
    rows: tuple[Row, ...]
    compared: tuple[Row, ...]
    unit: str

    @property
    def tiles(self) -> list[MapTile]:
        """All maps, row by row."""
        return [tile for row in (*self.rows, *self.compared) for tile in row.tiles]

    def peaks(self) -> dict[str, float]:
        """Return by scale what the largest value is: of signed maps its amount, of others the highest above 0."""
        peaks: dict[str, float] = {}
        for tile in self.tiles:
            top = float(np.abs(tile.values).max() if tile.signed else max(tile.values.max(), 0))
            peaks[tile.scale] = max(top, peaks.get(tile.scale, 0.0))
        return peaks


def save_sheet(sheet: Sheet, path: Path) -> None:
    """Write a sheet, whole or not at all, as arrays and JSON: nothing in it can run code when it is read."""
    tiles = sheet.tiles
    rows = [
        [{"title": row.title, "numbers": row.numbers, "count": len(row.tiles)} for row in rows]
        for rows in (sheet.rows, sheet.compared)
    ]
    texts = {
        "photo": sheet.photo,
        "placement": asdict(sheet.placement),
        "classes": sheet.classes,
        "rows": rows,
        "tiles": [asdict(tile) | {"values": None} for tile in tiles],
        "unit": sheet.unit,
    }
    with write_whole(path) as temporary, temporary.open("wb") as stream:
        maps = np.stack([tile.values for tile in tiles]) if tiles else np.zeros(0, np.float32)
        np.savez_compressed(stream, picture=np.asarray(sheet.picture), maps=maps, texts=np.array(json.dumps(texts)))


def load_sheet(path: Path) -> Sheet:
    """Read what `save_sheet` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        texts: dict[str, Any] = json.loads(str(arrays["texts"]))
        picture, maps = Image.fromarray(arrays["picture"]), arrays["maps"]
    tiles = [
        MapTile(**{**fields, "values": values, "box": Box(**fields["box"]) if fields["box"] else None})
        for fields, values in zip(texts["tiles"], maps, strict=True)
    ]
    remaining = iter(tiles)
    rows, compared = (
        tuple(Row(row["title"], row["numbers"], tuple(islice(remaining, row["count"]))) for row in rows)
        for rows in texts["rows"]
    )
    placement = Placement(**{key: tuple(value) for key, value in texts["placement"].items()})
    return Sheet(texts["photo"], picture, placement, tuple(texts["classes"]), rows, compared, texts["unit"])
