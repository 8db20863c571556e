"""Every fidelity metric of `dualcam evaluate`, on photos with boxes, against its naive twin."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.progress import Progress

from dualcam import DualBranch
from dualcam.evaluation.cells import BRANCHES, Cell, make_grid
from dualcam.evaluation.fidelity import choose_fidelity
from dualcam.evaluation.measure import Protocol
from dualcam.evaluation.photos import choose_photos
from dualcam.evaluation.records import Records
from dualcam.evaluation.run import Evaluation, run_evaluation
from dualcam.evaluation.views import Explained, make_views
from dualcam.metrics.fidelity import available
from dualcam.metrics.fidelity.randomization import randomized_heads
from dualcam.metrics.fidelity_settings import FidelitySettings, Space
from dualcam.types import HeadKind
from tests.metrics.fidelity.naive import naive_fidelity
from tests.models import SIZE, wrapped
from tests.photos_on_disk import write_boxed

Floats = NDArray[np.float64]
PHOTO = (40, 30)
PERCENT, FRACTION = 1e-3, 1e-5
"""Largest differences to the twin, which computes in double precision where the evaluation has single."""


@pytest.fixture
def boxed(tmp_path: Path) -> Path:
    """Photos of five classes, one each in test, and a box without a mask."""
    write_boxed(tmp_path / "data", 5, train=0, test=1)
    table = tmp_path / "data" / "boxes.csv"
    rows = [line.split(",") for line in table.read_text(encoding="utf-8").splitlines()]
    table.write_text("\n".join(",".join([row[0], *row[2:]]) for row in rows) + "\n", encoding="utf-8")
    return tmp_path / "data"


class Judge:
    """One photo of the data, its classifier, and the maps of one cell, one photo at a time."""

    def __init__(self, model: DualBranch, path: Path, space: Space) -> None:
        self.model, self.space = model, space
        with Image.open(path) as image:
            small = image.convert("RGB").resize((SIZE[1], SIZE[0]), Image.Resampling.BILINEAR)
        pixels = np.asarray(small, dtype=np.float64).transpose(2, 0, 1) / 255
        self.x = pixels if space == "pixels" else self._normalized(pixels)

    def _normalized(self, pixels: Floats) -> Floats:
        mean, std = (
            np.array(each)[:, None, None] for each in (self.model.preprocessing.mean, self.model.preprocessing.std)
        )
        return np.asarray((pixels - mean) / std)

    def tensor(self, x: Floats) -> torch.Tensor:
        return torch.from_numpy(self._normalized(x) if self.space == "pixels" else x)[None]

    @property
    def chosen(self) -> int:
        with torch.no_grad():
            return int(self.model(self.tensor(self.x)).softmax.argmax())

    def p(self, k: int) -> Callable[[Floats], float]:
        def ask(x: Floats) -> float:
            with torch.no_grad():
                return float(self.model(self.tensor(x)).softmax.softmax(1)[0, k])

        return ask

    def draw(self, cell: Cell, k: int, model: DualBranch | None = None) -> Callable[[Floats], Floats]:
        branch, score = BRANCHES[cell.kind.branch]

        def explain(x: Floats) -> Floats:
            (explained,) = (model or self.model).explain(
                self.tensor(x),
                k,
                method=cell.kind.method,
                branch=branch,
                score=score,
                sign=cell.kind.sign,
                normalize=cell.normalization,
            )
            return np.asarray(explained.heatmap().astype(np.float64))

        return explain

    def by_random_heads(self, cell: Cell, k: int, settings: FidelitySettings) -> list[Floats]:
        branch = BRANCHES[cell.kind.branch][0]
        found = []
        for head in randomized_heads(self.model.head(branch), settings):
            other = deepcopy(self.model)
            for ours, theirs in zip(other.head(branch).parameters(), head.parameters(), strict=True):
                ours.data.copy_(theirs)
            found.append(self.draw(cell, k, other)(self.x))
        return found


@pytest.mark.parametrize(
    ("kind", "method", "space", "explain"),
    [
        ("pooled-linear", "cam", "pixels", "true"),
        ("mlp", "grad-cam++", "normalized", "predicted"),
        ("norm-linear", "grad-cam", "pixels", "true"),
    ],
)
def test_all_metrics_are_their_naive_twins(
    boxed: Path, tmp_path: Path, kind: HeadKind, method: str, space: Space, explain: Explained
) -> None:
    model = wrapped(kind)
    settings = FidelitySettings(
        space=space,
        steps=6,
        road_percentages=(15, 60),
        sensitivity_samples=3,
        sensitivity_radius=0.3,
        head_draws=2,
        seed=5,
    )
    grid = make_grid(model, method=(method,), branch=("softmax-log-odds", "sigmoid"), normalize=("max", "ivr"))
    photos = choose_photos(model, boxed, split="test", select="none")
    fidelity = choose_fidelity(("all",), settings, explain=explain, sample=5)
    work = Evaluation(
        model,
        photos,
        tuple(grid.computed),
        make_views(model.preprocessing),
        Protocol(grid.normalizations),
        fidelity=fidelity,
        batch_size=7,
    )
    records = Records(tmp_path / "out", {}, work.record_type(), len(photos))
    with Progress(disable=True) as progress:
        assert run_evaluation(work, records, progress) == {}
    part, known = photos.parts[0], 0
    for position, row in enumerate(records.rows):
        judge = Judge(model, part.root / part.paths[position], space)
        label = int(photos.labels[position])
        k = label if explain == "true" else judge.chosen
        assert row["explained"] == k
        assert part.boxes is not None
        truth = inside(part.boxes[position][0]) if k == label else None
        known += truth is not None
        for cell in (Cell(each, how) for each in grid.computed for how in grid.normalizations):
            draw = judge.draw(cell, k)
            expected = naive_fidelity(
                judge.x, draw(judge.x), judge.p(k), draw, judge.by_random_heads(cell, k, settings), truth, settings
            )
            assert set(expected) == set(fidelity.metrics)
            for name, value in expected.items():
                found = row["fidelity"][fidelity.metrics.index(name), *grid.position(cell)]
                tolerance = PERCENT if available()[name].unit == "percent" else FRACTION
                if name == "road":
                    tolerance = 3e-4  # fills are right to 2e-3 of the kept values' range
                if name == "randomization":
                    tolerance = 1e-4  # ranks of pixels that are equal but for the last bit
                assert found == pytest.approx(value, abs=tolerance, rel=0, nan_ok=True), (cell, name)
    assert known


def inside(box: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Which pixels of the input have their centre in a box (XYXY, half-open, pixels of the photo)."""
    found = np.zeros(SIZE, np.bool_)
    for y in range(SIZE[0]):
        for x in range(SIZE[1]):
            u, v = (x + 0.5) * PHOTO[0] / SIZE[1], (y + 0.5) * PHOTO[1] / SIZE[0]
            found[y, x] = box[0] <= u < box[2] and box[1] <= v < box[3]
    return found
