"""`dualcam demo` on few pictures."""

from pathlib import Path

import numpy as np
import pytest

from dualcam.demo import digits
from dualcam.demo.run import run_demo


def test_composites_know_their_boxes() -> None:
    for composite in list(digits.test_composites(5)):
        assert composite.digits[0] != composite.digits[1]
        pixels = np.asarray(composite.image.convert("L"))
        assert pixels.shape == (digits.SIZE, digits.SIZE)
        (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = composite.boxes
        assert ax1 <= bx0 or bx1 <= ax0 or ay1 <= by0 or by1 <= ay0
        for x0, y0, x1, y1 in composite.boxes:
            assert pixels[y0:y1, x0:x1].max() > 200, "strokes are bright inside of their box"


def test_composites_are_the_same_each_time() -> None:
    first, second = list(digits.test_composites(3)), list(digits.test_composites(3))
    assert all(np.array_equal(np.asarray(a.image), np.asarray(b.image)) for a, b in zip(first, second, strict=True))


@pytest.mark.slow
def test_demo_writes_its_page(tmp_path: Path) -> None:
    page = run_demo(tmp_path, pictures=8, per_digit=4)
    text = page.read_text(encoding="utf-8")
    for name in ("chelsea.png", "coffee.png", "sigmoid, signed"):
        assert name in text
    sources = [part.split('"')[0] for part in text.split('<img src="')[1:]]
    assert len(sources) >= 9
    assert all((tmp_path / source).is_file() for source in sources)
