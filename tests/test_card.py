"""A model card says what a branch was trained on, what it changed, and what it earns."""

import json
from pathlib import Path
from typing import Any

import pytest

from dualcam import checkpoint
from dualcam.card import NAME, make_card, write_card
from dualcam.checkpoint import fingerprint, read_manifest
from dualcam.errors import CheckpointError
from tests.models import wrapped


def interval(mean: float) -> dict[str, float]:
    return {"mean": mean, "low": mean - 1, "high": mean + 1, "n": 7}


def results(model: str) -> dict[str, Any]:
    def cell(branch: str, sign: str, normalize: str, value: float, gap: float | None) -> dict[str, Any]:
        over = None if gap is None else interval(gap)
        metrics = {"Top-1 Loc": {"value": interval(value), "over_plain": None, "over_softmax": over}}
        return {"branch": branch, "method": "cam", "sign": sign, "normalize": normalize, "metrics": metrics}

    return {
        "model": {"fingerprint": model},
        "command": "dualcam evaluate DATA",
        "selection": "thresholds chosen on val",
        "n": 7,
        "baseline": "softmax cam signed minmax",
        "center_box": {"Top-1 Loc": interval(40.0)},
        "cells": [
            cell("softmax", "signed", "minmax", 50.0, None),
            cell("softmax", "signed", "ivr", 51.0, None),
            cell("sigmoid", "positive", "max", 55.5, 5.5),
        ],
    }


def test_a_branch_s_own_figures_are_shown_whatever_the_normalization(tmp_path: Path) -> None:
    checkpoint.save(wrapped("pooled-linear"), tmp_path)
    manifest = read_manifest(tmp_path)
    measured = results("x")
    for cell in measured["cells"]:
        cell["normalize"] = "minmax"
    text = make_card(manifest, measured)
    assert "| sigmoid | cam | positive | minmax | 55.5" in text
    assert "| sigmoid | cam | positive | max | 55.5" in make_card(manifest, results("x"))
    assert "| softmax | cam | signed | ivr" not in make_card(manifest, results("x"))


def test_baselines_directions_and_accuracy_are_those_of_the_evaluation(tmp_path: Path) -> None:
    checkpoint.save(wrapped("pooled-linear"), tmp_path)
    measured = results("x") | {"top1": interval(71.0), "better": {"Average Drop": "lower", "Top-1 Loc": "higher"}}
    measured["trivial"] = {"centre blob": {"Average Drop": interval(20.0)}}
    for cell in measured["cells"]:
        cell["metrics"]["Average Drop"] = {"value": interval(30.0), "over_plain": None, "over_softmax": None}
    text = make_card(read_manifest(tmp_path), measured)
    assert "| Top-1 Loc ↑ | Average Drop ↓ |" in text
    assert "| centre blob |  |  |  |  | 20.0 |" in text
    assert "On the 7 photos of the evaluation below its Top-1 is 71.0 % [70.0, 72.0]." in text


def test_a_random_start_is_no_copy(tmp_path: Path) -> None:
    model = wrapped("pooled-linear")
    model.training_record = {"settings": {"start": "random"}}
    checkpoint.save(model, tmp_path)
    text = write_card(tmp_path).read_text(encoding="utf-8")
    assert "A copy" not in text
    assert "from a random start" in text


def test_a_trained_branch_says_what_it_saw_and_that_the_classifier_is_the_same(tmp_path: Path) -> None:
    model = wrapped("pooled-linear")
    digest = fingerprint(model.classifier)
    model.training_record = {
        "summary": "sgd, 3 epochs",
        "settings": {"solver": "sgd", "epochs": 3, "lr": None},
        "data": {"name": "birds", "split": "train", "photos": 9},
        "backbone_before": digest,
        "broken_photos": {"a.jpg": "empty"},
        "last_epoch": {"val_softmax_top1": 0.875, "val_branch_top1": 0.75},
        "seconds": 1.5,
    }
    checkpoint.save(model, tmp_path)
    text = write_card(tmp_path).read_text(encoding="utf-8")
    for told in (
        "birds",
        "sgd, 3 epochs",
        digest,
        "87.5 %",
        "75.0 %",
        "is equal",
        "1 that could not",
        "Not measured yet",
    ):
        assert told in text
    assert "| lr |" not in text
    manifest = read_manifest(tmp_path)
    manifest["training"]["backbone_before"] = "another"
    assert "NOT EQUAL" in make_card(manifest)


def test_an_evaluation_stands_in_the_card_and_must_be_of_this_model(tmp_path: Path) -> None:
    model = wrapped("pooled-linear")
    checkpoint.save(model, tmp_path / "model")
    folder = tmp_path / "evaluation"
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps(results(fingerprint(model))), encoding="utf-8")
    text = write_card(tmp_path / "model", folder, model=model).read_text(encoding="utf-8")
    assert "| sigmoid | cam | positive | max | 55.5 (+5.5 [+4.5, +6.5]) |" in text
    assert "| softmax | cam | signed | minmax | 50.0 |" in text
    assert "| centre box |  |  |  | 40.0 |" in text
    assert "ivr" not in text
    (folder / "results.json").write_text(json.dumps(results("0" * 32)), encoding="utf-8")
    with pytest.raises(CheckpointError, match="another model"):
        write_card(tmp_path / "model", folder, model=model)
    (folder / "results.json").write_text("[]", encoding="utf-8")
    with pytest.raises(CheckpointError, match="no result of"):
        write_card(tmp_path / "model", folder, model=model)
    assert (tmp_path / "model" / NAME).read_text(encoding="utf-8") == text
