"""A sheet to one picture: the photo and its maps in rows, each map with its color scale."""

from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dualcam.data.preprocessing import Placement, to_source
from dualcam.files import write_whole
from dualcam.heatmap import IVR_PERCENTILE
from dualcam.overlay import HEAT, SIGNED, color_bar, draw_box, heat_over, signed_over
from dualcam.sheet import MapTile, Row, Sheet

INK, SOFT, GROUND, RULE = (28, 30, 34), (104, 109, 118), (255, 255, 255), (222, 225, 230)
MARGIN, GAP = 20, 16
HEADER, HEADING, TITLE, BAR, TICKS = 34, 34, 22, 10, 18
LEAST_WIDTH = 210
"""Pixels that a tile takes at least, so that its title has room beside the photo of a tower."""

Font: TypeAlias = "ImageFont.FreeTypeFont | ImageFont.ImageFont"


@cache
def font(size: int, *, bold: bool = False) -> Font:
    """Return DejaVu Sans, which comes with matplotlib and knows the letters of most alphabets, else Pillow's font."""
    spec = find_spec("matplotlib")
    file = Path(spec.origin if spec and spec.origin else "").parent / "mpl-data/fonts/ttf"
    try:
        return ImageFont.truetype(file / f"DejaVuSans{'-Bold' if bold else ''}.ttf", size)
    except OSError:
        return ImageFont.load_default(size)


def draw_panel(sheet: Sheet, limits: Mapping[str, float] | None = None) -> Image.Image:
    """Return the panel of ``sheet``: RGB, a row of tiles for each class, then the rows to compare.

    ``limits`` gives the upper end of the color scales by `MapTile.scale`, in the maps' unit; by default each map's
    own largest value is it.
    """
    width, height = sheet.picture.size
    column = max(width, LEAST_WIDTH)
    columns = 1 + max(len(row.tiles) for row in sheet.rows)
    inner = columns * column + (columns - 1) * GAP
    block = HEADING + TITLE + height + 6 + BAR + TICKS + GAP
    small = _small(sheet, inner)
    small_block = HEADING + TITLE + small.height + 6 + BAR + TICKS + GAP
    total = HEADER + len(sheet.rows) * block + len(sheet.compared) * small_block
    canvas = Image.new("RGB", (inner + 2 * MARGIN, total + MARGIN), GROUND)
    painter = Painter(canvas, sheet.unit, sheet.placement, limits)
    painter.header(sheet, inner)
    top = HEADER
    for row in sheet.rows:
        painter.heading(row, top, inner)
        painter.photo(sheet.picture, (MARGIN, top + HEADING), column)
        for position, tile in enumerate(row.tiles, 1):
            painter.tile(tile, sheet.picture, (MARGIN + position * (column + GAP), top + HEADING), column)
        top += block
    for row in sheet.compared:
        painter.heading(row, top, inner)
        each = (inner - (len(row.tiles) - 1) * GAP) // len(row.tiles)
        for position, tile in enumerate(row.tiles):
            painter.tile(tile, small, (MARGIN + position * (each + GAP), top + HEADING), each)
        top += small_block
    return canvas


def _small(sheet: Sheet, inner: int) -> Image.Image:
    """Return the photo at the size at which the longest row to compare fits into ``inner`` pixels."""
    count = max((len(row.tiles) for row in sheet.compared), default=1)
    ratio = min(1.0, (inner - (count - 1) * GAP) / count / sheet.picture.width)
    extent = (max(1, int(sheet.picture.width * ratio)), max(1, int(sheet.picture.height * ratio)))
    return sheet.picture.resize(extent, Image.Resampling.BICUBIC)


class Painter:
    """Draws the parts of one panel onto its canvas; positions are (left, top) in pixels."""

    def __init__(
        self, canvas: Image.Image, unit: str, placement: Placement, limits: Mapping[str, float] | None
    ) -> None:
        self.canvas, self.unit, self.placement, self.limits = canvas, unit, placement, limits
        self.pen = ImageDraw.Draw(canvas)

    def header(self, sheet: Sheet, width: int) -> None:
        """Write the photo's name and size."""
        size = f"{sheet.placement.source[0]} × {sheet.placement.source[1]} px"
        self.pen.text((MARGIN + width, 20), size, SOFT, font(12), anchor="rm")
        room = width - round(font(12).getlength(size)) - GAP
        self.pen.text((MARGIN, 20), fitted(Path(sheet.photo).name, font(14), room), INK, font(14), anchor="lm")

    def heading(self, row: Row, top: int, width: int) -> None:
        """Write a row's title and numbers under a rule."""
        self.pen.line((MARGIN, top + 2, MARGIN + width, top + 2), RULE)
        room, face = width - round(font(12).getlength(row.numbers)) - GAP, font(16, bold=True)
        self.pen.text((MARGIN, top + 19), fitted(row.title, face, room), INK, face, anchor="lm")
        self.pen.text((MARGIN + width, top + 19), row.numbers, SOFT, font(12), anchor="rm")

    def photo(self, picture: Image.Image, place: tuple[int, int], column: int) -> None:
        """Draw the photo."""
        self._title("Photo", place, column)
        self.canvas.paste(picture, (place[0] + (column - picture.width) // 2, place[1] + TITLE))

    def tile(self, tile: MapTile, picture: Image.Image, place: tuple[int, int], column: int) -> None:
        """Draw a map over the photo, with its box, and its color scale below."""
        values = to_source(tile.values, self.placement, (picture.height, picture.width))
        low, high = scale_ends(tile, values, self.limits)
        if tile.signed:
            image = signed_over(picture, values, high)
        else:
            spread = high - low
            shares = (values - low) / np.float32(spread) if spread > 0 else np.zeros_like(values)
            image = heat_over(picture, np.clip(shares, 0, 1))
        if tile.box is not None:
            width, height = self.placement.source
            draw_box(image, tile.box, (image.width / width, image.height / height))
        self._title(tile.title, place, column)
        left, top = place[0] + (column - image.width) // 2, place[1] + TITLE
        self.canvas.paste(image, (left, top))
        if not (values.any() if tile.signed else (values > low).any()):
            self._note("no evidence" if tile.signed else tile.empty, place[0] + column // 2, top + image.height // 2)
            return
        self._bar(tile, (low, high), (place[0], top + image.height + 6), column)

    def _bar(self, tile: MapTile, ends: tuple[float, float], place: tuple[int, int], column: int) -> None:
        self.canvas.paste(color_bar(SIGNED if tile.signed else HEAT, column, BAR), place)
        row = place[1] + BAR + 9
        face = font(11)
        last = f"{number(ends[1], sign=tile.signed)} {self.unit if tile.unit is None else tile.unit}".rstrip()
        self.pen.text((place[0], row), number(ends[0], sign=tile.signed), SOFT, face, anchor="lm")
        self.pen.text((place[0] + column, row), last, SOFT, face, anchor="rm")
        middle = place[0] + column // 2
        self.pen.text((middle, row), number((ends[0] + ends[1]) / 2, sign=tile.signed), SOFT, face, anchor="mm")
        self.pen.line((middle, place[1] + BAR - 3, middle, place[1] + BAR), SOFT)

    def _title(self, text: str, place: tuple[int, int], column: int) -> None:
        self.pen.text((place[0], place[1] + 10), fitted(text, font(13), column), INK, font(13), anchor="lm")

    def _note(self, text: str, center: int, middle: int) -> None:
        half = round(font(13).getlength(text)) // 2 + 10
        self.pen.rounded_rectangle((center - half, middle - 14, center + half, middle + 14), 6, GROUND, RULE)
        self.pen.text((center, middle), text, INK, font(13), anchor="mm")


def scale_ends(tile: MapTile, values: NDArray[np.float32], limits: Mapping[str, float] | None) -> tuple[float, float]:
    """Return the values at which a tile's color scale begins and ends; equal where there is nothing to show."""
    if tile.signed:
        high = limits[tile.scale] if limits else float(np.abs(values).max())
        return -high, high
    if limits:
        return 0.0, limits[tile.scale]
    low = 0.0
    if tile.normalization != "max":
        low = float(values.min() if tile.normalization == "minmax" else np.percentile(values, IVR_PERCENTILE))
    return low, max(low, float(values.max()))


def fitted(text: str, face: Font, width: int) -> str:
    """Return ``text``, cut at its end with an ellipsis where it is wider than ``width`` pixels in ``face``."""
    # A name that is no UTF-8 holds surrogates, which no font can draw.
    text = text.encode("utf-8", "replace").decode()
    if face.getlength(text) <= width:
        return text
    while text and face.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def write_panel(image: Image.Image, path: Path) -> None:
    """Write a panel as PNG, whole or not at all; OpenCV compresses it in half of Pillow's time."""
    done, data = cv2.imencode(".png", np.asarray(image)[..., ::-1])
    assert done, "an RGB picture can be written as PNG"
    with write_whole(path) as temporary:
        temporary.write_bytes(data.tobytes())


def number(value: float, *, sign: bool) -> str:
    """Return three significant digits with a true minus; zero is "0"."""
    text = f"{value:+.3g}" if sign else f"{value:.3g}"
    return "0" if float(text) == 0 else text.replace("-", "−")
