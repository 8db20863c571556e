"""Values to colors, over a photo: heat in [0, 1], and signed values about a neutral zero."""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from dualcam.types import Box

GREEN = (46, 204, 64)
# Anchors of the color scales, evenly spaced, interpolated between: dark to bright, and blue through white to red.
HEAT = ((20, 11, 53), (87, 15, 109), (147, 38, 103), (200, 64, 75), (237, 105, 37), (251, 165, 10), (252, 255, 164))
SIGNED = ((5, 48, 130), (33, 102, 190), (110, 165, 225), (247, 247, 247), (240, 130, 105), (203, 30, 45), (115, 0, 25))
FADED = 0.6
"""How far a photo goes to grey below a map, so that hues belong to the map."""


@cache
def color_table(anchors: tuple[tuple[int, int, int], ...]) -> NDArray[np.float32]:
    """Return 256 RGB colors [256, 3], 0..255, interpolated between evenly spaced ``anchors``."""
    stops = np.linspace(0, 255, len(anchors))
    channels = [np.interp(np.arange(256), stops, [anchor[channel] for anchor in anchors]) for channel in range(3)]
    table = np.stack(channels, axis=1).astype(np.float32)
    table.flags.writeable = False
    return table


def heat_over(picture: Image.Image, heatmap: NDArray[np.float32]) -> Image.Image:
    """Lay a heat map [H, W] in [0, 1] over an RGB picture (width W, height H): no heat leaves the picture grey."""
    values = np.clip(heatmap, 0, 1)
    return _blend(picture, color_table(HEAT)[_index(values)], 0.8 * np.minimum(1, 1.6 * values))


def signed_over(picture: Image.Image, values: NDArray[np.float32], limit: float) -> Image.Image:
    """Lay signed values [H, W] over an RGB picture: red above zero, blue below, nothing at zero.

    The scale reaches from -``limit`` to ``limit``, in the values' unit; values beyond take its end colors.
    """
    shares = np.clip(values / np.float32(limit or 1), -1, 1)
    return _blend(picture, color_table(SIGNED)[_index((shares + 1) / 2)], 0.85 * np.minimum(1, 1.6 * np.abs(shares)))


def color_bar(anchors: tuple[tuple[int, int, int], ...], width: int, height: int) -> Image.Image:
    """Return a horizontal color scale of ``width`` x ``height`` pixels."""
    row = color_table(anchors)[_index(np.linspace(0, 1, width, dtype=np.float32))]
    return Image.fromarray(np.broadcast_to(row.astype(np.uint8), (height, width, 3)).copy())


def draw_box(
    image: Image.Image,
    box: Box,
    scale: tuple[float, float] = (1.0, 1.0),
    *,
    color: tuple[int, int, int] = GREEN,
) -> None:
    """Draw the outline of a half-open box in source pixels onto ``image``, in place.

    ``scale`` (x, y) are image pixels per source pixel. The line grows with the image and stands on a dark one, so
    that it is seen on any ground.
    """
    width = max(2, round(max(image.size) / 160))
    x0, y0 = (round(value * ratio) for value, ratio in zip((box.x0, box.y0), scale, strict=True))
    x1, y1 = (round(value * ratio) - 1 for value, ratio in zip((box.x1, box.y1), scale, strict=True))
    corners = (x0, y0, max(x0, min(x1, image.width - 1)), max(y0, min(y1, image.height - 1)))
    pen = ImageDraw.Draw(image)
    pen.rectangle(corners, outline=(0, 0, 0), width=width + 1)
    pen.rectangle(corners, outline=color, width=width)


def _index(values: NDArray[np.float32]) -> NDArray[np.intp]:
    return np.rint(np.nan_to_num(values) * 255).astype(np.intp)


def _blend(picture: Image.Image, colors: NDArray[np.float32], alpha: NDArray[np.float32]) -> Image.Image:
    """Mix colors [H, W, 3] into the faded picture by ``alpha`` [H, W]."""
    pixels = np.asarray(picture.convert("RGB"), dtype=np.float32)
    grey = pixels @ np.array([0.299, 0.587, 0.114], np.float32)
    ground = pixels + FADED * (grey[..., None] - pixels)
    mixed = ground + alpha[..., None] * (colors - ground)
    return Image.fromarray(np.clip(np.rint(mixed), 0, 255).astype(np.uint8))
