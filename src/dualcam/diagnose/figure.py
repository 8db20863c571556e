"""The distortions drawn for one model: maps that differ while every probability stays as it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from dualcam.data.preprocessing import to_source
from dualcam.diagnose.collapse import smallest_shift_of_cells
from dualcam.diagnose.findings import Findings
from dualcam.diagnose.last_layer import LastLayer
from dualcam.diagnose.maps import SIGMOID
from dualcam.heatmap import normalize
from dualcam.metrics.map_similarity import spearman
from dualcam.model import DualBranch
from dualcam.overlay import HEAT, SIGNED, color_bar, heat_over, signed_over
from dualcam.panel import GROUND, INK, RULE, SOFT, fitted, font

MOST_PHOTOS = 3
COLUMN, TALLEST, GAP, MARGIN = 226, 190, 12, 24
TITLE, HEAD, CAPTION, NAME, LEGEND = 64, 50, 22, 34, 40
SAME = (22, 122, 62)
UNCHANGED = 1e-5
"""Difference of probabilities that counts as rounding of the model's own single precision."""


@dataclass(frozen=True)
class Tile:
    """One map: what stands above its column, the line below it, and the class's probability by its own branch.

    ``empty`` is written over a map that nowhere speaks for the class.
    """

    title: str
    about: str
    note: str
    probability: float
    signed: NDArray[np.float64]
    empty: str = "nothing speaks for it"


@dataclass(frozen=True)
class Row:
    """One photo: its file and class, its picture, and its maps, the plain one first; ``photo`` is its place."""

    photo: int
    title: str
    picture: Image.Image
    tiles: tuple[Tile, ...]


def make_rows(model: DualBranch, findings: Findings) -> list[Row]:
    """Return the figure's rows: photos spread over all, each with the drawn shift that changes its map most."""
    rows = []
    count = len(findings.observed.photos)
    for place in np.unique(np.linspace(0, count - 1, min(MOST_PHOTOS, count)).astype(int)).tolist():
        chosen = int(findings.index[place])
        name = model.class_names[chosen] if model.class_names else f"class {chosen}"
        title = f"{Path(findings.observed.photos[place]).name}: {name}"
        rows.append(Row(place, title, findings.observed.pictures[place], tuple(_tiles(findings, place))))
    return rows


def _tiles(findings: Findings, place: int) -> list[Tile]:
    seen, drawn, chosen = findings.observed, findings.drawn, int(findings.index[place])
    layer, plain = seen.softmax, drawn.plain.signed[place]
    before = float(seen.logits[place].softmax(0)[chosen])
    centered, branch = drawn.by_score["centered"].signed[place], drawn.by_score[SIGMOID].signed[place]
    tiles = [Tile(f"softmax, {findings.diagnosis.method}", "the model as it is", "", before, plain)]
    if layer is not None and drawn.shifted is not None:
        for title, about, note, shift, values in (
            _shifted(findings, layer, place),
            _collapsed(findings, layer, place, chosen),
        ):
            probability = _probability(findings, layer, place, shift, chosen)
            tiles.append(Tile(title, about, note, probability, values, "nothing is left"))
    tiles.append(Tile("softmax, centered", "no shift changes it; untrained", _alike(plain, centered), before, centered))
    own = float(seen.sigmoid_logits[place, chosen].sigmoid())
    tiles.append(Tile("sigmoid branch", "its scores feel every shift", _alike(plain, branch), own, branch))
    return tiles


def _shifted(findings: Findings, layer: LastLayer, place: int) -> tuple[str, str, str, Tensor, NDArray[np.float64]]:
    """Return the drawn shift after which most is changed and something is left, or the most changing one."""
    assert findings.drawn.shifted is not None
    plain, maps = findings.drawn.plain.signed[place], findings.drawn.shifted.signed[place]
    ranks = np.array([spearman(plain, each) for each in maps])
    alive = (maps > 0).any((1, 2))
    ranks[np.isnan(ranks)] = 2  # a constant map has no order: only where all are
    best = int(np.argmin(np.where(alive, ranks, np.inf) if alive.any() else ranks))
    draws = findings.settings.draws
    size = findings.settings.sizes[best // draws]
    shift = size * layer.row_norm * findings.directions[best % draws]
    note = f"|d| = {100 * size:.0f} % of a row; {_alike(plain, maps[best])}"
    return "softmax, shifted", "d added to every class row", note, shift, maps[best]


def _collapsed(
    findings: Findings, layer: LastLayer, place: int, chosen: int
) -> tuple[str, str, str, Tensor, NDArray[np.float64]]:
    """Return the smallest shift that empties the photo's map; the whole row where that is all that is known."""
    row, plain = layer.weight[chosen], findings.drawn.plain.signed[place]
    shift, values, about = -row, np.zeros_like(plain), "d = −(the class's row) empties it"
    if layer.head.is_linear and findings.diagnosis.method == "cam":
        cells = findings.observed.forwards.kept[place].double().flatten(1)
        shift = smallest_shift_of_cells(row, cells)
        values = ((row + shift) @ cells).reshape(plain.shape).numpy()
        about = "the smallest d that empties it"
    note = f"|d| = {100 * float(shift.norm() / row.norm()):.0f} % of the class's row"
    return "softmax, collapsed", about, note, shift, values


def _probability(findings: Findings, layer: LastLayer, place: int, shift: Tensor, chosen: int) -> float:
    """Return the class's probability with ``shift`` in every row, computed anew."""
    logits = findings.observed.softmax_inputs[place] @ (layer.weight + shift).T + layer.bias
    return float(logits.softmax(0)[chosen])


def _alike(plain: NDArray[np.float64], other: NDArray[np.float64]) -> str:
    rank = spearman(plain, other)
    return "no order" if np.isnan(rank) else f"rank {rank:+.2f}".replace("-", "−")


def draw_figure(rows: Sequence[Row], findings: Findings, name: str) -> Image.Image:
    """Return the figure: for each photo a row of heat maps, and a row of signed maps on one scale."""
    columns = 1 + max(len(row.tiles) for row in rows)
    sizes = [_fit(row.picture) for row in rows]
    width = 2 * MARGIN + columns * COLUMN + (columns - 1) * GAP
    height = TITLE + HEAD + sum(NAME + 2 * (size[1] + CAPTION) + GAP for size in sizes) + LEGEND
    canvas = Image.new("RGB", (width, height), GROUND)
    pen = ImageDraw.Draw(canvas)
    free = findings.diagnosis.reason is None
    heading = f"{name}: {'the same probabilities, other heat maps' if free else 'heat maps of several scores'}"
    pen.text(
        (MARGIN, 24), fitted(heading, font(19, bold=True), width - 2 * MARGIN), INK, font(19, bold=True), anchor="lm"
    )
    told = (
        "Softmax does not see a vector d that is added to all class rows; every heat map does. "
        "Maps over the same p belong to classifiers that no test of predictions can tell apart."
        if free
        else "Softmax leaves this head's rows no free vector, so nothing could be shifted or collapsed."
    )
    pen.text((MARGIN, 48), fitted(told, font(13), width - 2 * MARGIN), SOFT, font(13), anchor="lm")
    lefts = [MARGIN + column * (COLUMN + GAP) for column in range(columns)]
    for left, tile in zip(lefts[1:], rows[0].tiles, strict=True):
        pen.text(
            (left, TITLE + 16), fitted(tile.title, font(14, bold=True), COLUMN), INK, font(14, bold=True), anchor="lm"
        )
        pen.text((left, TITLE + 36), fitted(tile.about, font(11), COLUMN), SOFT, font(11), anchor="lm")
    top = TITLE + HEAD
    for row, size in zip(rows, sizes, strict=True):
        pen.line((MARGIN, top, width - MARGIN, top), RULE)
        pen.text(
            (MARGIN, top + NAME // 2),
            fitted(row.title, font(13, bold=True), width),
            INK,
            font(13, bold=True),
            anchor="lm",
        )
        _draw_row(canvas, pen, row, findings, lefts, top + NAME, size)
        top += NAME + 2 * (size[1] + CAPTION) + GAP
    _legend(canvas, pen, top, width)
    return canvas


def _draw_row(
    canvas: Image.Image,
    pen: ImageDraw.ImageDraw,
    row: Row,
    findings: Findings,
    lefts: Sequence[int],
    top: int,
    size: tuple[int, int],
) -> None:
    picture = row.picture.resize(size, Image.Resampling.BICUBIC)
    below = top + size[1] + CAPTION
    canvas.paste(picture, (lefts[0], top))
    pen.text((lefts[0], top + size[1] + 11), "p: softmax probability of the class", SOFT, font(12), anchor="lm")
    pen.text((lefts[0], below + 14), "the same maps with their sign:", SOFT, font(12), anchor="lm")
    pen.text((lefts[0], below + 32), "red for the class, blue against,", SOFT, font(12), anchor="lm")
    pen.text((lefts[0], below + 50), "one scale for the whole row", SOFT, font(12), anchor="lm")
    plain = row.tiles[0]
    limit = float(np.abs(plain.signed).max()) or 1.0
    placement = findings.observed.placements[row.photo]
    for left, tile in zip(lefts[1:], row.tiles, strict=True):
        values = to_source(tile.signed.astype(np.float32), placement, (size[1], size[0]))
        # Rounding leaves dust on a map that is zero by construction.
        values[np.abs(values) < 1e-6 * limit] = 0
        canvas.paste(heat_over(picture, normalize(values, "max")), (left, top))
        if not (values > 0).any():
            _note(pen, tile.empty, left + size[0] // 2, top + size[1] // 2)
        canvas.paste(signed_over(picture, values, limit), (left, below))
        own = tile is row.tiles[-1]
        same = not own and abs(tile.probability - plain.probability) < UNCHANGED
        text = f"{'sigmoid' if own else 'p'} = {100 * tile.probability:.2f} %"
        text += ", unchanged" if same and tile is not plain else ""
        pen.text((left, top + size[1] + 11), text, SAME if same else INK, font(12, bold=True), anchor="lm")
        pen.text((left, below + size[1] + 11), fitted(tile.note, font(12), COLUMN), SOFT, font(12), anchor="lm")


def _note(pen: ImageDraw.ImageDraw, text: str, center: int, middle: int) -> None:
    half = round(font(13).getlength(text)) // 2 + 10
    pen.rounded_rectangle((center - half, middle - 14, center + half, middle + 14), 6, GROUND, RULE)
    pen.text((center, middle), text, INK, font(13), anchor="mm")


def _legend(canvas: Image.Image, pen: ImageDraw.ImageDraw, top: int, width: int) -> None:
    middle, face = top + LEGEND // 2 - 4, font(12)
    left = MARGIN
    for before, anchors, after in (("0", HEAT, "each map's maximum"), ("against", SIGNED, "for the class")):
        pen.text((left, middle), before, SOFT, face, anchor="lm")
        left += round(face.getlength(before)) + 8
        canvas.paste(color_bar(anchors, 120, 10), (left, middle - 5))
        left += 128
        pen.text((left, middle), after, SOFT, face, anchor="lm")
        left += round(face.getlength(after)) + 40
    told = "rank: rank correlation with the first map"
    room = width - MARGIN - left
    pen.text((width - MARGIN, middle), fitted(told, face, room), SOFT, face, anchor="rm")


def _fit(picture: Image.Image) -> tuple[int, int]:
    ratio = min(COLUMN / picture.width, TALLEST / picture.height)
    return max(1, round(picture.width * ratio)), max(1, round(picture.height * ratio))
