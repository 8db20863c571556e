"""Figures of good and bad photos: every shape of photo has its place, and colors are explained."""

import numpy as np
import pytest
from PIL import Image

from dualcam.evaluation.figure import LEAST_COLUMN, ROW, WIDEST, Shown, draw_figure, make_columns, tile_size
from tests.models import wrapped


@pytest.mark.parametrize(("width", "height"), [(400, 300), (300, 400), (6000, 300), (40, 4000), (1, 1)])
def test_pictures_of_any_shape_fit_their_tile(width: int, height: int) -> None:
    size = tile_size(width, height)
    assert size[0] == WIDEST or size[1] == ROW
    assert 1 <= size[0] <= WIDEST and 1 <= size[1] <= ROW
    assert size[0] / size[1] == pytest.approx(width / height, rel=0.01) or min(size) < 20


def test_rows_titles_and_legend_do_not_meet() -> None:
    shapes = [(WIDEST, 20), (17, ROW), (ROW, ROW)]
    pictures = [Image.new("RGB", size, (0, 0, 200)) for size in shapes]
    columns = make_columns(wrapped("pooled-linear"), ["grad-cam"])
    rows = [Shown("n01440764, 97 %", (each, each, each), (0.5, 1.0)) for each in pictures]
    drawn = np.asarray(draw_figure([("best of 9", rows[:2]), ("worst of 9", rows[2:])], columns))
    blue = (drawn == (0, 0, 200)).all(2)
    assert int(blue.sum()) == 3 * sum(width * height for width, height in shapes), "no text lies on a picture"
    towers = draw_figure([("best of 9", rows[1:2])], columns)
    assert towers.width > 3 * LEAST_COLUMN
    legend = np.asarray(towers)[-50:-10].min()
    assert legend < 200, "colors are explained below the rows"
