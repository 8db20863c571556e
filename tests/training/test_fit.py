"""What training must do, and what it must leave alone."""

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import dualcam
from dualcam.checkpoint import fingerprint
from dualcam.errors import CheckpointError, DataError, ModelError, TrainingDiverged
from dualcam.model import DualBranch
from dualcam.types import HeadKind
from tests.killed import KillAfter, Killed
from tests.models import CHANNELS, KINDS, PREPROCESSING, images, tiny
from tests.observe import changed, snapshot
from tests.photos_on_disk import write_folder


def wrapped(kind: HeadKind = "pooled-linear") -> DualBranch:
    return dualcam.wrap(tiny(kind, dtype=torch.float32), preprocessing=PREPROCESSING)


def branch_of(model: DualBranch) -> list[torch.Tensor]:
    return [parameter.detach() for parameter in model.sigmoid_head.parameters()]


def same(a: DualBranch, b: DualBranch) -> bool:
    return all(torch.equal(x, y) for x, y in zip(branch_of(a), branch_of(b), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_branch_changes(kind: HeadKind, photos: Path) -> None:
    model = wrapped(kind)
    model.classifier.train()
    model.classifier.features[1].eval()  # type: ignore[index, union-attr]
    next(model.classifier.parameters()).requires_grad_(False)
    x = images(3, torch.float32)
    with torch.no_grad():
        model.eval()
        softmax = model(x).softmax
        model.classifier.train()
        model.classifier.features[1].eval()  # type: ignore[index, union-attr]
    before, start = snapshot(model.classifier), branch_of(model)
    trained = dualcam.fit(model, photos, epochs=2, views=2, lr=0.5)
    assert changed(before, snapshot(model.classifier)) == []
    assert all(torch.equal(a, b) for a, b in zip(start, branch_of(model), strict=True)), "the given model is untouched"
    assert trained.classifier is model.classifier
    assert any(not torch.equal(a, b) for a, b in zip(start, branch_of(trained), strict=True))
    assert all(parameter.grad is None for parameter in trained.sigmoid_head.parameters())
    with torch.no_grad():
        assert torch.equal(trained.eval()(x).softmax, softmax)


def test_dropout_of_the_trained_clone_is_off(photos: Path) -> None:
    model = wrapped("mlp")
    model.train()
    first = dualcam.fit(model, photos, epochs=1, augment="none")
    second = dualcam.fit(wrapped("mlp"), photos, epochs=1, augment="none")
    assert same(first, second)
    assert not any(isinstance(part, nn.Dropout) and part.training for part in first.sigmoid_head.eval().modules())


@pytest.mark.parametrize("kind", KINDS)
def test_with_and_without_cache_the_same_branch(kind: HeadKind, photos: Path) -> None:
    options: dict[str, Any] = {"epochs": 3, "augment": "none", "lr": 0.2, "batch_size": 7}
    cached = dualcam.fit(wrapped(kind), photos, **options)
    streamed = dualcam.fit(wrapped(kind), photos, cache=False, **options)
    for a, b in zip(branch_of(cached), branch_of(streamed), strict=True):
        assert (a - b).abs().max() < 1e-5


def test_loss_falls_and_history_is_written(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    dualcam.fit(wrapped(), photos, out, epochs=4, lr=0.5)
    lines = (out / "history.csv").read_text().splitlines()
    assert lines[0] == "epoch,lr,train_loss,val_loss,val_branch_top1,val_softmax_top1"
    losses = [float(line.split(",")[2]) for line in lines[1:]]
    assert len(losses) == 4
    assert losses[-1] < losses[0]
    assert [float(line.split(",")[1]) for line in lines[1:]] == pytest.approx([0.5, 0.5, 0.5, 0.05])
    assert (out / "history.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md",
        "branch.safetensors",
        "dualcam.json",
        "history.csv",
        "history.png",
    ]
    assert "fingerprint before and after training is equal" in (out / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("epoch", [0, 1])
@pytest.mark.parametrize("options", [{}, {"anchor": "start"}, {"solver": "lbfgs", "weight_decay": 1e-3}], ids=str)
def test_a_killed_run_resumes_bit_identical(epoch: int, options: dict[str, Any], photos: Path, tmp_path: Path) -> None:
    options = {"epochs": 4, "lr": 0.5, "views": 2, **options}
    whole = dualcam.fit(wrapped(), photos, tmp_path / "whole", **options)
    with pytest.raises(Killed):
        dualcam.fit(wrapped(), photos, tmp_path / "killed", reporter=KillAfter(epoch), **options)
    with pytest.raises(CheckpointError, match="--resume"):
        dualcam.wrap(tmp_path / "killed", backbone=wrapped().classifier)
    with pytest.raises(CheckpointError, match="did not finish; go on with --resume"):
        dualcam.fit(wrapped(), photos, tmp_path / "killed", **options)
    resumed = dualcam.fit(wrapped(), photos, tmp_path / "killed", resume=True, **options)
    assert same(whole, resumed)
    assert (tmp_path / "whole/history.csv").read_text() == (tmp_path / "killed/history.csv").read_text()


def test_resume_refuses_other_settings(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        dualcam.fit(wrapped(), photos, tmp_path / "out", epochs=4, reporter=KillAfter(1))
    with pytest.raises(CheckpointError, match="epochs: 4 then, 5 now"):
        dualcam.fit(wrapped(), photos, tmp_path / "out", epochs=5, resume=True)
    dualcam.fit(wrapped(), photos, tmp_path / "out", epochs=1, overwrite=True)
    with pytest.raises(CheckpointError, match="--overwrite or choose another directory"):
        dualcam.fit(wrapped(), photos, tmp_path / "out", epochs=1)


def test_a_rate_too_high_ends_with_a_message_and_the_last_good_state(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingDiverged, match=r"too high a rate.*Try --lr"):
        dualcam.fit(wrapped(), photos, tmp_path / "out", epochs=3, lr=1e9)
    assert (tmp_path / "out/state/state.json").is_file()
    assert not (tmp_path / "out/dualcam.json").exists()


def test_checkpoint_round_trip(photos: Path, tmp_path: Path) -> None:
    model = wrapped()
    trained = dualcam.fit(model, photos, tmp_path / "out", epochs=2, fit_head="linear")
    again = dualcam.wrap(tmp_path / "out", backbone=model.classifier)
    x = images(2, torch.float32)
    with torch.no_grad():
        ours, theirs = trained.eval()(x), again.eval()(x)
    assert torch.equal(ours.softmax, theirs.softmax)
    assert torch.equal(ours.sigmoid, theirs.sigmoid)
    assert again.class_names == ("0", "1", "2", "3", "4")
    assert "sgd, 2 epochs" in again.describe()


def test_classes_that_do_not_match_offer_a_fitted_head(tmp_path: Path) -> None:
    write_folder(tmp_path / "data", {"heron": 4, "stork": 4})
    with pytest.raises(DataError, match=r"do not match the folders.*heron, stork.*--fit-head linear"):
        dualcam.fit(wrapped(), tmp_path / "data")
    trained = dualcam.fit(wrapped("mlp"), tmp_path / "data", fit_head="linear", epochs=1)
    assert trained.class_names == ("heron", "stork")
    assert trained.softmax_head.kind == "pooled-linear"
    with pytest.raises(ModelError, match="cache"):
        dualcam.fit(wrapped(), tmp_path / "data", fit_head="linear", cache=False)


def test_classes_without_photos_keep_their_rows(tmp_path: Path) -> None:
    write_folder(tmp_path / "data", {"1": 4, "3": 4})
    model = wrapped()
    trained = dualcam.fit(model, tmp_path / "data", epochs=2, lr=0.5, weight_decay=0.1)
    before, after = model.sigmoid_head.rows(), trained.sigmoid_head.rows()
    kept = [bool(torch.equal(before.weight[k], after.weight[k])) for k in range(5)]
    assert kept == [True, False, True, False, True]


def test_few_of_many_classes_train_as_if_they_were_all(tmp_path: Path) -> None:
    """The others' rows are in no loss: weights, learning rate and the rows reached are those of a head of three."""
    write_folder(tmp_path / "data", {"1": 4, "3": 4, "300": 4})
    small, large = (tiny("pooled-linear", dtype=torch.float32) for _ in range(2))
    small.head[-1], large.head[-1] = nn.Linear(CHANNELS, 3), nn.Linear(CHANNELS, 400)
    with torch.no_grad():
        for name in ("weight", "bias"):
            getattr(large.head[-1], name)[[1, 3, 300]] = getattr(small.head[-1], name)
    options: dict[str, Any] = {"epochs": 6, "val_share": 0.25}
    models = [
        dualcam.wrap(small, preprocessing=PREPROCESSING, class_names=["1", "3", "300"]),
        dualcam.wrap(large, preprocessing=PREPROCESSING),
    ]
    of_three, of_all = (
        dualcam.fit(model, tmp_path / "data", tmp_path / str(number), **options) for number, model in enumerate(models)
    )
    torch.testing.assert_close(of_all.sigmoid_head.rows().weight[[1, 3, 300]], of_three.sigmoid_head.rows().weight)
    torch.testing.assert_close(of_all.sigmoid_head.rows().bias[[1, 3, 300]], of_three.sigmoid_head.rows().bias)
    losses = [read_losses(tmp_path / str(number) / "history.csv") for number in range(2)]
    assert losses[1] == [pytest.approx(row, rel=1e-4) for row in losses[0]]
    assert losses[1][-1][1] < losses[1][0][1]
    assert of_all.training_record is not None
    weights = of_all.training_record["positive_weight"]
    assert [weights[k] for k in (0, 1, 3, 300)] == [None, 2.0, 2.0, 2.0]


def read_losses(history: Path) -> list[list[float]]:
    """Return learning rate, training and validation loss by epoch."""
    with history.open(encoding="utf-8", newline="") as file:
        return [[float(row[key]) for key in ("lr", "train_loss", "val_loss")] for row in csv.DictReader(file)]


def test_names_match_whatever_their_case_and_separators(tmp_path: Path) -> None:
    write_folder(tmp_path / "data", {"01.Great_Heron": 2, "02.white stork": 2})
    names = ["white stork", "great-heron", "a", "b", "c"]
    model = dualcam.wrap(tiny("pooled-linear", dtype=torch.float32), preprocessing=PREPROCESSING, class_names=names)
    trained = dualcam.fit(model, tmp_path / "data", epochs=1, lr=0.5)
    moved = (trained.sigmoid_head.rows().weight != model.sigmoid_head.rows().weight).any(1)
    assert moved.tolist() == [True, True, False, False, False]


def test_broken_photos_cost_only_themselves(photos: Path, tmp_path: Path) -> None:
    (photos / "0" / "broken.png").write_bytes(b"not a picture")
    trained = dualcam.fit(wrapped(), photos, tmp_path / "out", epochs=1, val_share=0)
    assert trained.training_record is not None
    assert list(trained.training_record["broken_photos"]) == ["0/broken.png"]
    assert trained.training_record["data"]["photos"] == 30
    streamed = dualcam.fit(wrapped(), photos, epochs=1, val_share=0, cache=False)
    assert streamed.training_record is not None
    assert list(streamed.training_record["broken_photos"]) == ["0/broken.png"]


def test_centered_start_has_no_mean_row(photos: Path) -> None:
    trained = dualcam.fit(wrapped(), photos, epochs=0, start="centered")
    rows, clone = trained.sigmoid_head.rows(), trained.softmax_head.rows()
    assert rows.weight.mean(0).abs().max() < 1e-6
    assert torch.allclose(rows.weight - rows.weight[:1], clone.weight - clone.weight[:1], atol=1e-6)


def test_the_cache_is_keyed_by_the_weights(photos: Path, tmp_path: Path) -> None:
    one, other = (
        wrapped(),
        dualcam.wrap(tiny("pooled-linear", dtype=torch.float32, seed=1), preprocessing=PREPROCESSING),
    )
    assert fingerprint(one.classifier) != fingerprint(other.classifier)
    for model in (one, other, one):
        dualcam.fit(model, photos, epochs=0, val_share=0, cache_dir=tmp_path / "cache")
    assert len([item for item in (tmp_path / "cache").iterdir() if item.is_dir()]) == 2


def test_the_last_layer_of_a_tail_is_a_convex_problem(photos: Path) -> None:
    """L-BFGS reaches it, and the tail before it stays the model's own."""
    model = wrapped("tail")
    before = [parameter.detach().clone() for parameter in model.classifier.parameters()]
    trained = dualcam.fit(model, photos, solver="lbfgs", epochs=2)
    assert trained.softmax_head.is_affine
    assert all(torch.equal(*pair) for pair in zip(before, model.classifier.parameters(), strict=True))
    moved = zip(branch_of(model), branch_of(trained), strict=True)
    assert any(not torch.equal(*pair) for pair in moved)
    with pytest.raises(ModelError, match="linear head"):
        dualcam.fit(wrapped("norm-linear"), photos, solver="lbfgs", epochs=2)
