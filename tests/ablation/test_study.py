"""Whole studies on a tiny model: what they must show, keep, and leave alone."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dualcam.ablation.branches import Shelf, branch_key
from dualcam.ablation.contrasts import Combination
from dualcam.ablation.figures import Result, gather
from dualcam.ablation.heads import HEADS
from dualcam.ablation.study import Study, StudySettings, prepare, run_study
from dualcam.ablation.tables import notes, titled, write_study
from dualcam.checkpoint import fingerprint
from dualcam.data.label_sets import LabelSets
from dualcam.data.multi_label import with_all_labels
from dualcam.datasets import open_dataset
from dualcam.errors import CheckpointError, DataError
from dualcam.evaluation.cells import Cell, MapKind
from dualcam.evaluation.fidelity import choose_fidelity
from dualcam.evaluation.run import Evaluation, run_evaluation
from dualcam.metrics.fidelity_settings import FidelitySettings
from dualcam.model import DualBranch
from dualcam.progress import progress_bar
from dualcam.training.fit import fit
from dualcam.training.history import Epoch
from dualcam.training.report import Reporter
from dualcam.training.settings import TrainingSettings
from tests.killed import Killed
from tests.observe import changed, snapshot

RECIPE = TrainingSettings(epochs=1, views=2, lr=0.5)
THREE = ("softmax", "sigmoid", "sigmoid-random")
SMALL = StudySettings(head=THREE, method=("cam",), normalize=("minmax", "max"), seeds=2, recipe=RECIPE)
ALL = replace(SMALL, head=())
UNTRAINED = sum(head.changes is None for head in HEADS.values())


def study(
    model: DualBranch, data: Path, out: Path, settings: StudySettings = SMALL, report: Reporter | None = None
) -> tuple[Study, Result, Shelf]:
    shelf = Shelf(out.parent / "cache", report or Reporter())
    with progress_bar() as progress:
        made = prepare(model, data, settings, shelf, progress)
        records, _ = run_study(made, out, progress, workers=1)
    return made, gather(made, records), shelf


def numbers(result: Result) -> Any:
    return [(item, figures) for item, figures in result.values.items()], [each.figures for each in result.effects]


def test_without_training_every_sigmoid_branch_is_what_it_started_as(
    model: DualBranch, data: Path, tmp_path: Path
) -> None:
    """A clone draws the softmax map, a centered start the centered map; no effect of training is left."""
    heads = ("softmax", "centered", "sigmoid", "sigmoid-centered", "sigmoid-unbalanced", "sigmoid-optimum")
    settings = replace(SMALL, head=heads, recipe=replace(RECIPE, epochs=0), fidelity=choose_fidelity(("average-drop",)))
    _, result, shelf = study(model, data, tmp_path / "out", settings)
    assert shelf.made == 2 * 4
    for item, figures in result.values.items():
        if item.head in {"sigmoid", "sigmoid-unbalanced", "sigmoid-optimum"}:
            assert figures == result.values[item._replace(head="softmax")]
        if item.head == "sigmoid-centered":
            for metric, figure in figures.items():
                twin = result.values[item._replace(head="centered")][metric]
                assert (figure.mean, figure.low, figure.high) == pytest.approx((twin.mean, twin.low, twin.high), 1e-5)
    still = [each for each in result.effects if each.contrast.ingredient in {"solver", "balance"}]
    still += [each for each in result.effects if {each.contrast.before, each.contrast.after} == {"softmax", "sigmoid"}]
    assert len(still) == 7
    for effect in still:
        for figure in effect.figures.values():
            assert (figure.mean, figure.low, figure.high, figure.spread) == (0, 0, 0, 0)


def test_training_and_starts_do_something(model: DualBranch, data: Path, tmp_path: Path) -> None:
    made, result, shelf = study(model, data, tmp_path / "out", ALL)
    assert made.heads == tuple(HEADS)
    assert shelf.made == 2 * (len(HEADS) - UNTRAINED)
    digests = [fingerprint(run.model.sigmoid_head) for run in made.runs if run.heads[0] != "softmax"]
    assert len(set(digests)) == len(digests)
    assert {item.head for item in result.values} == set(HEADS)
    assert {item.method for item in result.values} == {"cam"}
    assert (result.photos, result.seeds, result.broken) == (10, 2, 0)
    assert "PxAP" in result.metrics
    trained = [figures["PxAP"].mean for item, figures in result.values.items() if item.head.startswith("sigmoid")]
    assert len(set(trained)) > 4


def test_rows_tell_of_a_shift_and_of_its_sign(model: DualBranch, data: Path, tmp_path: Path) -> None:
    """A shift that leaves no weight positive is most of every row, and centering takes it out."""
    rows = model.softmax_head.rows().weight.detach()
    rows -= rows.max(0).values + 1
    mean, norms = rows.double().mean(0), [float(row.double().norm()) for row in rows]
    heads = ("softmax", "centered", "log-odds", "sigmoid-optimum")
    _, result, _ = study(model, data, tmp_path / "out", replace(SMALL, head=heads, seeds=1))
    assert result.rows["softmax"].positive == 0
    assert result.rows["softmax"].mean_row == pytest.approx(100 * float(mean.norm()) / np.mean(norms))
    assert result.rows["centered"].mean_row == pytest.approx(0, abs=1e-6)
    assert result.rows["centered"].positive > 20
    assert 0 < result.rows["sigmoid-optimum"].positive < 100
    assert "log-odds" not in result.rows
    nothing = result.values[Combination("softmax", "cam", "positive", "max")]
    assert nothing["GT-known Loc"].mean == 0, "the shift has emptied the clamped map"
    assert result.values[Combination("centered", "cam", "positive", "max")]["best IoU"].mean > 0


def test_a_given_softmax_head_is_judged_once_for_seeds_that_share_their_photos(
    model: DualBranch, data: Path, tmp_path: Path
) -> None:
    made, _, _ = study(model, data, tmp_path / "out", replace(SMALL, select="none", train=data, train_split="train"))
    assert sorted(run.seeds for run in made.runs if run.heads[0] == "softmax") == [(0, 1)]
    assert len(made.runs) == 1 + 2 * 2
    held, _, _ = study(model, data, tmp_path / "other", SMALL)
    assert sorted(run.seeds for run in held.runs if run.heads[0] == "softmax") == [(0,), (1,)]


def test_a_fitted_head_is_one_a_seed_and_the_same_for_all_its_branches(
    model: DualBranch, data: Path, tmp_path: Path
) -> None:
    settings = replace(SMALL, recipe=replace(RECIPE, fit_head="linear"))
    made, result, shelf = study(model, data, tmp_path / "out", settings)
    assert shelf.made == 2 * (1 + 2)
    for seed in range(2):
        assert len({fingerprint(run.model.softmax_head) for run in made.runs if run.seeds == (seed,)}) == 1
    assert len({fingerprint(run.model.softmax_head) for run in made.runs}) == 2
    assert result.top1.spread >= 0


def test_what_is_judged_is_never_trained_on(
    model: DualBranch, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[set[str]] = []

    def watched(model: DualBranch, photos: Any, *rest: Any, **options: Any) -> DualBranch:
        trained.append(set(photos.paths))
        return fit(model, photos, *rest, **options)

    monkeypatch.setattr("dualcam.ablation.branches.fit", watched)
    made, _, _ = study(model, data, tmp_path / "out", replace(SMALL, head=("sigmoid",), seeds=3))
    assert made.trained_on == (25, 25, 25)
    assert len({frozenset(paths) for paths in trained}) == 3, "each seed holds out photos of its own"
    for run, paths in zip(made.runs, trained, strict=True):
        judged = {
            part.paths[place]
            for part, place in map(run.photos.locate, np.union1d(run.photos.choosing, run.photos.reported).tolist())
        }
        assert len(judged) == 5 + 10
        assert not judged & paths


def test_a_second_study_trains_and_judges_nothing(
    model: DualBranch, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, first, _ = study(model, data, tmp_path / "out")

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("computed again")

    monkeypatch.setattr("dualcam.ablation.branches.fit", refuse)
    monkeypatch.setattr("dualcam.ablation.study.run_evaluation", refuse)
    _, second, shelf = study(model, data, tmp_path / "out")
    assert (shelf.made, shelf.found) == (0, 2 * 2)
    assert numbers(first) == numbers(second)


class KillAfter(Reporter):
    """Raises at the end of the given epoch of all that are trained."""

    def __init__(self, epochs: int) -> None:
        self.left = epochs

    def epoch(self, row: Epoch, total: int) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed


@pytest.mark.parametrize("epochs", [0, 1, 5])
def test_a_killed_training_goes_on_to_the_same_figures(
    model: DualBranch, data: Path, tmp_path: Path, epochs: int
) -> None:
    settings = replace(SMALL, recipe=replace(RECIPE, epochs=3))
    with pytest.raises(Killed):
        study(model, data, tmp_path / "killed" / "out", settings, KillAfter(epochs))
    _, killed, shelf = study(model, data, tmp_path / "killed" / "out", settings)
    assert shelf.found == epochs // 3
    _, whole, _ = study(model, data, tmp_path / "whole" / "out", settings)
    assert numbers(killed) == numbers(whole)


def test_a_killed_evaluation_goes_on_to_the_same_figures(
    model: DualBranch, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = iter(range(99))

    def interrupted(work: Evaluation, *rest: Any) -> dict[str, str]:
        if next(count) == 3:
            raise Killed
        return run_evaluation(work, *rest)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("dualcam.ablation.study.run_evaluation", interrupted)
        study(model, data, tmp_path / "out")
    _, killed, _ = study(model, data, tmp_path / "out")
    _, whole, _ = study(model, data, tmp_path / "whole")
    assert numbers(killed) == numbers(whole)


def test_the_model_is_left_as_it_was(model: DualBranch, data: Path, tmp_path: Path) -> None:
    model.train()
    next(model.classifier.parameters()).requires_grad_(False)
    before = snapshot(model)
    study(model, data, tmp_path / "out", replace(SMALL, seeds=1, recipe=replace(RECIPE, fit_head="linear")))
    assert changed(before, snapshot(model)) == []


def test_a_broken_photo_is_left_out_of_every_figure(model: DualBranch, data: Path, tmp_path: Path) -> None:
    (data / "test" / "3" / "6.png").write_bytes(b"no picture")
    (data / "train" / "1" / "0.png").write_bytes(b"no picture")
    settings = replace(SMALL, head=("softmax", "sigmoid"), seeds=1)
    made, result, _ = study(model, data, tmp_path / "out", settings)
    assert (result.photos, result.broken) == (9, 1)
    held = {path for run in made.runs for path in run.photos.parts[0].paths}
    assert len(made.broken) == int("train/1/0.png" not in held)
    for figures in result.values.values():
        assert all(figure.photos == 9 for figure in figures.values())


def test_files_hold_every_figure(model: DualBranch, data: Path, tmp_path: Path) -> None:
    _, result, _ = study(model, data, tmp_path / "out", ALL)
    files = write_study(tmp_path / "out", result, {"command": "dualcam ablate", "selection": result.told})
    content = json.loads(files[0].read_text(encoding="utf-8"))
    assert len(content["values"]) == len(HEADS) * 2 * 2
    assert len(content["effects"]) == len(result.effects)
    text = (tmp_path / "out" / "ablation.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in HEADS)
    assert "cam = " not in text, "one method was asked for"
    values = (tmp_path / "out" / "values.csv").read_text(encoding="utf-8").splitlines()
    assert len(values) == 1 + len(result.values) * len(result.metrics)
    effects = (tmp_path / "out" / "effects.csv").read_text(encoding="utf-8").splitlines()
    assert len(effects) == 1 + len(result.effects) * len(result.metrics)
    base = result.values[Combination("sigmoid", "cam", "positive", "max")]
    assert f"| {base['PxAP'].mean:.1f} [" in text


def test_other_settings_are_refused_and_another_head_is_not(model: DualBranch, data: Path, tmp_path: Path) -> None:
    small = replace(SMALL, head=("softmax", "sigmoid"), seeds=1)
    study(model, data, tmp_path / "out", small)
    _, more, shelf = study(model, data, tmp_path / "out", replace(small, head=THREE))
    assert shelf.made == 1
    assert {item.head for item in more.values} == {"softmax", "sigmoid", "sigmoid-random"}
    with pytest.raises(
        CheckpointError, match=r"signs was \['signed', 'positive'\], now \['signed'\].*--overwrite"
    ) as told:
        study(model, data, tmp_path / "out", replace(small, sign=("signed",)))
    assert len(str(told.value)) < 300 + len(str(tmp_path))
    with pytest.raises(CheckpointError, match=r"photos was '[0-9a-f]{32}'") as told:
        study(model, data, tmp_path / "out", replace(small, select="none", train=data, train_split="train"))
    assert len(str(told.value)) < 500 + len(str(tmp_path))


def test_fidelity_is_that_of_the_records_on_the_photos_it_was_measured_on(
    model: DualBranch, data: Path, tmp_path: Path
) -> None:
    asked = choose_fidelity(("average-drop", "insertion"), FidelitySettings(steps=2), sample=4)
    made, result, _ = study(model, data, tmp_path / "out", replace(SMALL, fidelity=asked))
    with progress_bar() as progress:
        records, _ = run_study(made, tmp_path / "out", progress)
    metric = {"average-drop": "Average Drop", "insertion": "Insertion AUC"}
    unit = {"average-drop": 1, "insertion": 100}
    for number, name in enumerate(asked.metrics):
        for item, figures in result.values.items():
            found = []
            for run, rows in zip(made.runs, records, strict=True):
                if item.head in run.heads:
                    kind = MapKind("cam", HEADS[item.head].branch, item.sign)
                    at = run.grid.position(Cell(kind, item.normalization))
                    values = rows["fidelity"][run.photos.reported, number, *at]
                    assert (~np.isnan(values)).sum() == 4
                    found.append(unit[name] * np.nanmean(values.astype(np.float64)))
            assert figures[metric[name]].mean == pytest.approx(np.mean(found), abs=1e-4)
            assert figures[metric[name]].photos == 4
    assert result.lower == {"Average Drop"}
    assert "Average Drop 4, Insertion AUC 4" in notes(result)
    assert "Average Drop ↓" in titled(result)
    assert "Insertion AUC" in titled(result)


def test_fidelity_alone_needs_no_boxes(model: DualBranch, data: Path, tmp_path: Path) -> None:
    (data / "boxes.csv").unlink()
    settings = replace(SMALL, seeds=1, fidelity=choose_fidelity(("average-gain",)))
    _, result, _ = study(model, data, tmp_path / "out", settings)
    assert result.metrics == ("Average Gain",)
    assert (result.photos, result.choosing) == (10, (0,))
    assert result.top1.photos == 10
    with pytest.raises(DataError, match="no boxes"):
        study(model, data, tmp_path / "out", replace(settings, fidelity=None))


def test_a_faster_copy_judges_alike(model: DualBranch, data: Path, tmp_path: Path) -> None:
    settings = replace(SMALL, seeds=1, fidelity=choose_fidelity(("average-drop",)))
    _, plain, _ = study(model, data, tmp_path / "plain", settings)
    _, fast, _ = study(model, data, tmp_path / "fast", replace(settings, optimize=True))
    for item, figures in plain.values.items():
        assert fast.values[item]["Average Drop"].mean == pytest.approx(figures["Average Drop"].mean, abs=0.05)
    with pytest.raises(CheckpointError, match="optimize"):
        study(model, data, tmp_path / "plain", replace(settings, optimize=True))


def test_a_key_knows_photos_labels_settings_and_weights(model: DualBranch, data: Path) -> None:
    photos = open_dataset(data, "train")
    keys = [
        branch_key(model, photos, RECIPE),
        branch_key(model, photos.subset(range(9)), RECIPE),
        branch_key(model, replace(photos, labels=photos.labels[::-1].copy()), RECIPE),
        branch_key(model, photos, replace(RECIPE, seed=1)),
    ]
    assert keys[0] == branch_key(model, photos, RECIPE)
    model.softmax_head.rows().weight.data[0, 0] += 1
    keys.append(branch_key(model, photos, RECIPE))
    every, settings = with_all_labels(photos), replace(RECIPE, multi_label=True)
    assert every.label_sets is not None
    more = [np.unique([label, 0]).tolist() for label in photos.labels]
    keys += [
        branch_key(model, every, settings),
        branch_key(model, replace(every, label_sets=LabelSets.of(more)), settings),
    ]
    assert len(set(keys)) == len(keys)


def test_photos_that_are_all_judged_are_not_trained_on(model: DualBranch, data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--train DATA2"):
        study(model, data, tmp_path / "out", replace(SMALL, train=data, train_split="test"))
