"""Fidelity of a whole grid, against one photo and one map at a time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.progress import Progress
from torch import Tensor, nn
from torch.nn import functional

from dualcam import DualBranch
from dualcam.errors import ChoiceError
from dualcam.evaluation.cells import BRANCHES, Cell, Grid, make_grid
from dualcam.evaluation.fidelity import Fidelity, choose_fidelity, plan_metrics
from dualcam.evaluation.measure import Protocol
from dualcam.evaluation.photos import Photos, choose_photos
from dualcam.evaluation.records import DONE, Records
from dualcam.evaluation.run import Evaluation, run_evaluation
from dualcam.evaluation.summary import summarize
from dualcam.evaluation.views import make_views
from dualcam.heads import Head
from dualcam.metrics import fidelity as plugins
from dualcam.metrics.fidelity import FidelityMetric, Measured, Perturbation
from dualcam.metrics.fidelity_settings import FidelitySettings
from dualcam.metrics.perturbations import MASKED
from dualcam.types import HeadKind
from tests.models import SIZE, wrapped
from tests.photos_on_disk import write_folder

CHEAP = ("average-drop", "increase", "average-gain")
AREAS = ("insertion", "deletion")
TOLERANCE = 1e-5


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six photos of five classes, without boxes."""
    write_folder(tmp_path / "photos", {"a": 2, "b": 1, "c": 1, "d": 1, "e": 1})
    return tmp_path / "photos"


@dataclass
class Seen:
    """How many photos went through a model."""

    photos: int = 0


@contextmanager
def counted(model: DualBranch) -> Iterator[Seen]:
    seen = Seen()

    def count(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.photos += len(inputs[0])

    handle = model.classifier.register_forward_pre_hook(count)
    try:
        yield seen
    finally:
        handle.remove()


def evaluate(
    model: DualBranch, photos: Photos, grid: Grid, fidelity: Fidelity, out: Path, **options: Any
) -> NDArray[Any]:
    """Return the records of an evaluation."""
    work = Evaluation(
        model=model,
        photos=photos,
        kinds=tuple(grid.computed),
        views=options.pop("views", make_views(model.preprocessing)),
        protocol=Protocol(grid.normalizations),
        fidelity=fidelity,
        **options,
    )
    records = Records(out, {}, work.record_type(), len(photos))
    with Progress(disable=True) as progress:
        assert run_evaluation(work, records, progress) == {}
    assert (records.rows["status"] == DONE).all()
    return records.rows


@dataclass(frozen=True)
class Naive:
    """One photo: pixels [3, H, W] in [0, 1], and the model that is asked."""

    model: DualBranch
    path: Path
    settings: FidelitySettings
    scored_by: str = "softmax"

    @property
    def x(self) -> Tensor:
        with Image.open(self.path) as image:
            resized = image.convert("RGB").resize((SIZE[1], SIZE[0]), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.asarray(resized, dtype=np.float64) / 255).permute(2, 0, 1)
        return pixels if self.settings.space == "pixels" else self.normal(pixels)

    def normal(self, pixels: Tensor) -> Tensor:
        mean, std = (
            torch.tensor(each, dtype=torch.float64).view(3, 1, 1)
            for each in (self.model.preprocessing.mean, self.model.preprocessing.std)
        )
        return (pixels - mean) / std

    def logits(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            both = self.model((self.normal(x) if self.settings.space == "pixels" else x).unsqueeze(0))
        return both.softmax, both.sigmoid

    @property
    def label(self) -> int:
        return int(self.logits(self.x)[0].argmax())

    def p(self, x: Tensor) -> float:
        softmax, sigmoid = self.logits(x)
        scores = softmax.softmax(1) if self.scored_by == "softmax" else sigmoid.sigmoid()
        return float(scores[0, self.label])

    def raw(self, cell: Cell, label: int, x: Tensor | None = None, model: DualBranch | None = None) -> Tensor:
        branch, score = BRANCHES[cell.kind.branch]
        x = self.x if x is None else x
        tensor = (self.normal(x) if self.settings.space == "pixels" else x).unsqueeze(0)
        (explained,) = (model or self.model).explain(
            tensor, label, method=cell.kind.method, branch=branch, score=score, sign=cell.kind.sign, normalize=None
        )
        return explained.raw[0].double()

    def heat(self, cell: Cell, **options: Any) -> Tensor:
        raw = self.raw(cell, options.pop("label", self.label), **options)
        m = functional.interpolate(raw[None, None], SIZE, mode="bilinear", align_corners=False)[0, 0]
        if cell.normalization == "minmax":
            m = m - m.min()
        elif cell.normalization == "ivr":
            m = (m - torch.quantile(m, 0.35)).clamp(min=0)
        m = m.clamp(min=0)
        return m / m.max() if m.max() > 0 else m

    def scores(self, heat: Tensor) -> dict[str, float]:
        y, o = self.p(self.x), self.p(self.x * heat)
        return {
            "average-drop": 100 * max(0, y - o) / y,
            "increase": 100.0 * (o > y),
            "average-gain": 100 * max(0, o - y) / (1 - y),
        }

    def areas(self, heat: Tensor) -> dict[str, float]:
        steps, x = self.settings.steps, self.x
        order = torch.argsort(heat.flatten(), descending=True, stable=True)
        mean = x.mean((1, 2), keepdim=True).expand_as(x)
        found = {}
        for name, start, end in (("insertion", torch.zeros_like(x), x), ("deletion", x, mean)):
            curve = []
            for step in range(steps + 1):
                photo = start.clone().flatten(1)
                first = order[: round(order.numel() * step / steps)]
                photo[:, first] = end.flatten(1)[:, first]
                curve.append(self.p(photo.view_as(x)))
            found[name] = float(np.trapezoid(curve, dx=1 / steps))
        return found


def naives(model: DualBranch, photos: Photos, fidelity: Fidelity) -> list[Naive]:
    part = photos.parts[0]
    return [Naive(model, part.root / path, fidelity.settings, fidelity.scored_by) for path in part.paths]


@pytest.mark.parametrize(
    ("kind", "space", "scored_by"),
    [
        ("pooled-linear", "pixels", "softmax"),
        ("pooled-linear", "normalized", "sigmoid"),
        ("mlp", "pixels", "softmax"),
    ],
)
def test_a_grid_is_one_map_at_a_time(folder: Path, tmp_path: Path, kind: HeadKind, space: Any, scored_by: Any) -> None:
    model = wrapped(kind)
    grid = make_grid(model, method=("grad-cam", "grad-cam++"), branch=("softmax", "softmax-centered", "sigmoid"))
    photos = choose_photos(model, folder, truth_needed=False)
    settings = FidelitySettings(space=space, steps=5, insertion_baseline="zero")
    fidelity = choose_fidelity(CHEAP + AREAS, settings, scored_by=scored_by)
    rows = evaluate(model, photos, grid, fidelity, tmp_path / "out", batch_size=4)
    for row, one in zip(rows, naives(model, photos, fidelity), strict=True):
        assert row["explained"] == one.label
        assert row["score"] == pytest.approx(one.p(one.x), abs=TOLERANCE)
        for cell in (Cell(kind, how) for kind in grid.computed for how in grid.normalizations):
            heat = one.heat(cell)
            for name, expected in {**one.scores(heat), **one.areas(heat)}.items():
                value = row["fidelity"][fidelity.metrics.index(name), *grid.position(cell)]
                assert value == pytest.approx(expected, abs=100 * TOLERANCE), (cell, name)
        away = [(np.arange(side) + 0.5) / side - 0.5 for side in SIZE]
        blob = torch.from_numpy(np.exp(-(away[0][:, None] ** 2 + away[1] ** 2) / (2 * 0.25**2)))
        for number, heat in enumerate((blob, torch.ones(SIZE, dtype=torch.float64))):
            for name, expected in {**one.scores(heat), **one.areas(heat)}.items():
                value = row["trivial"][fidelity.metrics.index(name), number]
                assert value == pytest.approx(expected, abs=100 * TOLERANCE), (number, name)


def test_each_distinct_photo_goes_through_the_model_once(folder: Path, tmp_path: Path) -> None:
    model = wrapped("pooled-linear")
    with torch.no_grad():  # no class has positive evidence in the sigmoid branch: its positive maps are all zero
        model.sigmoid_head.rows().weight.copy_(-model.sigmoid_head.rows().weight.abs())
    grid = make_grid(model, method=("cam", "grad-cam", "grad-cam++"), branch=("softmax", "sigmoid"))
    photos = choose_photos(model, folder, truth_needed=False)
    fidelity = choose_fidelity((*CHEAP, "deletion"), FidelitySettings(steps=4, deletion_baseline="zero"))
    with counted(model) as seen:
        rows = evaluate(model, photos, grid, fidelity, tmp_path / "out")
    expected = 0
    for one in naives(model, photos, fidelity):
        heats = [one.heat(Cell(kind, how)) for kind in grid.computed for how in grid.normalizations]
        assert sum(not heat.any() for heat in heats) == 2 * 3 + 2  # positive ones, and what max leaves of signed ones
        away = [(np.arange(side) + 0.5) / side - 0.5 for side in SIZE]
        heats += [torch.from_numpy(np.exp(-(away[0][:, None] ** 2 + away[1] ** 2) / (2 * 0.25**2)))]
        heats += [torch.ones(SIZE, dtype=torch.float64)]
        asked = [one.x, *(one.x * heat for heat in heats), torch.zeros_like(one.x)]
        for heat in heats:
            order = torch.argsort(heat.float().flatten(), descending=True, stable=True)
            for step in range(1, 4):
                photo = one.x.clone().flatten(1)
                photo[:, order[: round(order.numel() * step / 4)]] = 0
                asked.append(photo.view_as(one.x))
        expected += len({photo.float().numpy().round(5).tobytes() for photo in asked})
    assert seen.photos == expected
    places = [place for place, each in enumerate(grid.computed) if (each.branch, each.sign) == ("sigmoid", "positive")]
    drops = rows["fidelity"][:, fidelity.metrics.index("average-drop")][:, places].reshape(len(rows), -1)
    np.testing.assert_array_equal(drops, drops[:, :1].repeat(drops.shape[1], 1))  # they share one black photo


def test_batches_workers_and_order_change_nothing(folder: Path, tmp_path: Path) -> None:
    model = wrapped("pooled-linear")
    grid = make_grid(model)
    photos = choose_photos(model, folder, truth_needed=False)
    fidelity = choose_fidelity(CHEAP + AREAS, FidelitySettings(steps=3))
    many = evaluate(model, photos, grid, fidelity, tmp_path / "many", batch_size=32, workers=2)
    single = evaluate(model, photos, grid, fidelity, tmp_path / "single", batch_size=1, workers=0)
    backward = replace(photos, parts=(photos.parts[0].subset(np.arange(6)[::-1]),), labels=photos.labels[::-1])
    turned = evaluate(model, backward, grid, fidelity, tmp_path / "turned", batch_size=5)
    for other in (single, turned[::-1]):
        for name in ("score", "fidelity", "trivial"):
            np.testing.assert_allclose(many[name], other[name], rtol=0, atol=TOLERANCE)


def test_views_and_refinement_are_how_the_map_is_made(folder: Path, tmp_path: Path) -> None:
    """Averaged looks, and a refined map, are masks of the plain photo."""
    model = wrapped("pooled-linear")
    grid = make_grid(model, method=("cam",), branch=("softmax",), sign=("positive",), normalize=("max",))
    photos = choose_photos(model, folder, truth_needed=False)
    fidelity = choose_fidelity(("average-drop",))
    views = make_views(model.preprocessing, flip=True)
    rows = evaluate(model, photos, grid, fidelity, tmp_path / "views", views=views)
    plain = evaluate(model, photos, grid, fidelity, tmp_path / "plain")
    refined = evaluate(model, photos, grid, fidelity, tmp_path / "refined", guided=True)
    for row, one in zip(rows, naives(model, photos, fidelity), strict=True):
        cell, x = grid.cells[0], one.x
        raw = (one.raw(cell, one.label) + one.raw(cell, one.label, x.flip(-1)).flip(-1)) / 2
        heat = functional.interpolate(raw[None, None], SIZE, mode="bilinear", align_corners=False)[0, 0]
        expected = one.scores(heat / heat.max() if heat.max() > 0 else heat)["average-drop"]
        assert row["fidelity"].item() == pytest.approx(expected, abs=100 * TOLERANCE)
    assert not np.allclose(rows["fidelity"], plain["fidelity"], atol=0.01)
    assert not np.allclose(refined["fidelity"], plain["fidelity"], atol=0.01)


def noisy(photo: Tensor, settings: FidelitySettings) -> Callable[[Tensor], Tensor]:
    noise = torch.rand(3, *photo.shape, generator=torch.Generator().manual_seed(settings.seed))
    return lambda number: photo + 0.1 * noise[number]


NOISY = Perturbation("noisy", lambda heat: heat.new_empty(0), noisy, lambda settings: 3, lambda *_: torch.arange(3))


def negated(head: Head, settings: FidelitySettings) -> tuple[Head, ...]:
    from copy import deepcopy

    copies = []
    for factor in (-1.0, 1.0):
        copies.append(deepcopy(head))
        with torch.no_grad():
            copies[-1].rows().weight.mul_(factor)
    return tuple(copies)


def own_metric(name: str, **options: Any) -> FidelityMetric:
    fields: dict[str, Any] = {"unit": "percent", "better": "lower", "low": 0, "high": float("inf")}
    return FidelityMetric(name=name, title=name, paper="", **{**fields, **options})


def test_metrics_may_read_maps_of_modified_photos_and_heads(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Metrics of one's own, from one file each: they read maps by the same method, branch, sign and normalization."""
    seen: dict[str, list[Measured]] = {"noise": [], "heads": [], "masked": []}

    def keep(name: str) -> Any:
        def score(measured: Measured, settings: FidelitySettings) -> float:
            seen[name].append(measured)
            return 1.0

        return score

    own = [
        own_metric("noise", score=keep("noise"), explains=lambda settings: (NOISY,)),
        own_metric("heads", score=keep("heads"), heads=negated),
        own_metric(
            "masked", score=keep("masked"), asks=lambda settings: (MASKED,), explains=lambda settings: (MASKED,)
        ),
    ]
    monkeypatch.setattr(plugins, "available", lambda: {each.name: each for each in own})
    model = wrapped("pooled-linear")
    grid = make_grid(model, method=("cam", "grad-cam++"), branch=("softmax", "sigmoid"), normalize=("minmax", "ivr"))
    photos = choose_photos(model, folder, truth_needed=False)
    fidelity = choose_fidelity(("all",))
    with counted(model) as forwards:
        rows = evaluate(model, photos, grid, fidelity, tmp_path / "out", batch_size=5)
    assert (rows["fidelity"] == 1).all()
    assert np.isnan(rows["trivial"]).all()  # nothing drew these, so nothing draws them anew
    assert forwards.photos == 6 * (1 + 3 + len(grid.computed) * 2)  # noise is shared by all maps
    cells = [Cell(kind, how) for kind in grid.computed for how in grid.normalizations]
    pairs = [(one, cell) for one in naives(model, photos, fidelity) for cell in cells]
    for number, (one, cell) in enumerate(pairs):
        photo = one.x.float()
        noise = seen["noise"][number].maps[NOISY]
        expected = [one.heat(cell, x=each.double()) for each in NOISY(photo, photo, fidelity.settings)]
        np.testing.assert_allclose(noise, torch.stack(expected), atol=1e-4)
        masked = one.heat(cell, x=one.x * one.heat(cell))
        np.testing.assert_allclose(seen["masked"][number].maps[MASKED][0], masked, atol=1e-4)
        redrawn = seen["heads"][number].redrawn
        assert redrawn is not None
        np.testing.assert_allclose(redrawn[1], one.heat(cell), atol=1e-4)  # the same rows
        assert not np.allclose(redrawn[0], redrawn[1], atol=0.01)


def test_a_sample_is_drawn_by_path_and_seed(folder: Path) -> None:
    model = wrapped("pooled-linear")
    photos = choose_photos(model, folder, truth_needed=False)
    backward = replace(photos, parts=(photos.parts[0].subset(np.arange(6)[::-1]),), labels=photos.labels[::-1])
    draws = []
    for seed in range(8):
        fidelity = choose_fidelity(CHEAP, FidelitySettings(seed=seed), sample=2)
        drawn = {photos.parts[0].paths[place] for place in plan_metrics(fidelity, photos)}
        assert drawn == {backward.parts[0].paths[place] for place in plan_metrics(fidelity, backward)}
        assert len(drawn) == 2
        draws.append(frozenset(drawn))
    assert len(set(draws)) > 1


def test_a_photo_of_several_labels_is_judged_once(folder: Path) -> None:
    """Unless it is the labels that are explained."""
    photos = choose_photos(wrapped("pooled-linear"), folder, truth_needed=False)
    twice = np.repeat(np.arange(6), 2)
    photos = replace(
        photos, parts=(photos.parts[0].subset(twice),), labels=photos.labels[twice], reported=np.arange(12)
    )
    assert len(plan_metrics(choose_fidelity(CHEAP), photos)) == 6
    assert len(plan_metrics(choose_fidelity(CHEAP, explain="true"), photos)) == 12


def test_expensive_metrics_have_a_sample_of_their_own(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dualcam.evaluation.fidelity.SAMPLE", 2)
    model = wrapped("pooled-linear")
    grid = make_grid(model, method=("cam",))
    photos = choose_photos(model, folder, truth_needed=False)
    fidelity = choose_fidelity(("average-drop", "deletion"), FidelitySettings(steps=3))
    rows = evaluate(model, photos, grid, fidelity, tmp_path / "out")
    summary = summarize(grid, rows, photos.choosing, photos.reported, fidelity)
    assert summary.metrics == ("Average Drop", "Deletion AUC")
    assert summary.lower == set(summary.metrics)
    for row in summary.rows:
        assert (row.figures["Average Drop"].value.n, row.figures["Deletion AUC"].value.n) == (6, 2)
        values = rows["fidelity"][:, 1, *grid.position(row.cell)]
        assert row.figures["Deletion AUC"].value.mean == pytest.approx(100 * np.nanmean(values), abs=1e-5)
        over = row.figures["Average Drop"].over_softmax
        if row.cell.kind.branch == "sigmoid":
            base = grid.position(row.cell._replace(kind=row.cell.kind._replace(branch="softmax")))
            ours, theirs = (rows["fidelity"][:, 0, *at] for at in (grid.position(row.cell), base))
            assert over is not None
            assert over.mean == pytest.approx((ours.astype(float) - theirs).mean(), abs=1e-5)


def test_the_example_in_the_docs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = Path(__file__).parents[2] / "docs" / "fidelity.md"
    code = page.read_text(encoding="utf-8").partition("From Python, with a wrapped `model`:\n")[2].split("\n\nA ")[0]
    monkeypatch.chdir(folder.parent)
    model = wrapped("pooled-linear")
    for _ in range(2):  # the second time from the records
        with counted(model) as seen:
            exec(compile(dedent(code), "docs/fidelity.md", "exec"), {"model": model})
    assert seen.photos == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * len(make_grid(model).computed) * 3
    assert lines[: len(lines) // 2] == lines[len(lines) // 2 :]
    assert lines[0].startswith("softmax cam signed minmax ")


def test_mistakes_are_named(folder: Path, tmp_path: Path) -> None:
    model = wrapped("pooled-linear")
    with pytest.raises(ChoiceError, match=r"averge-drop.*average-drop"):
        choose_fidelity(("averge-drop",))
    with pytest.raises(ChoiceError, match="sample"):
        choose_fidelity((), sample=0)
    photos = choose_photos(model, folder, truth_needed=False)
    unknown = replace(photos, labels=np.full(6, -1))
    grid = make_grid(model, method=("cam",))
    with pytest.raises(ChoiceError, match="true"):
        evaluate(model, unknown, grid, choose_fidelity(CHEAP, explain="true"), tmp_path / "out")
