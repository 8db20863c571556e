"""A whole diagnosis of small models: what is said, what is written, what is left as it was."""

import json
from dataclasses import replace
from html import escape, unescape
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import dualcam
from dualcam.data.truth import Boxes
from dualcam.diagnose.findings import Findings
from dualcam.diagnose.inputs import Inputs, TrueBoxes
from dualcam.diagnose.report import write_report
from dualcam.diagnose.run import diagnose
from dualcam.diagnose.sentences import (
    collapse_words,
    percent,
    recovery_words,
    shift_words,
    sigmoid_words,
    spread,
    verdict,
)
from dualcam.diagnose.sentences import tiny as tiny_number
from dualcam.diagnose.settings import DiagnoseSettings
from dualcam.errors import ChoiceError, DataError, MethodNotApplicable
from dualcam.metrics.bootstrap import Interval
from dualcam.progress import progress_bar
from dualcam.types import HeadKind
from tests.conftest import ROOT
from tests.models import CHANNELS, CLASSES, KINDS, PREPROCESSING, Tiny, tiny, wrapped
from tests.observe import changed, snapshot

SETTINGS = DiagnoseSettings(draws=2, views=1)


@pytest.fixture
def photos(tmp_path: Path) -> tuple[str, ...]:
    generator = np.random.default_rng(0)
    paths = [tmp_path / f"{number}.png" for number in range(4)]
    for path in paths:
        pixels = generator.integers(0, 255, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((80, 60)).save(path)
    return tuple(map(str, paths))


def unlabeled(photos: tuple[str, ...]) -> Inputs:
    return Inputs(photos, None, None, "predictions", len(photos))


def run(model: dualcam.DualBranch, photos: tuple[str, ...]) -> Findings:
    with progress_bar() as progress:
        return diagnose(model, unlabeled(photos), SETTINGS, progress)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activation", [nn.ReLU, nn.SiLU])
def test_every_head_gets_its_report(
    kind: HeadKind, activation: type[nn.Module], photos: tuple[str, ...], tmp_path: Path
) -> None:
    model = wrapped(kind, activation, dtype=torch.float32)
    model.train()
    before = snapshot(model)
    findings = run(model, photos)
    assert not changed(before, snapshot(model))
    files = write_report(tmp_path / "out", model, findings, unlabeled(photos))
    record = json.loads(files[0].read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert record["photos"] == 4
    assert max(each["probability_change"] for each in record["shifts"]) < 1e-12
    assert [each["size"] for each in record["shifts"]] == [0.1, 0.3, 1.0]
    shares = [each["arbitrary"]["mean"] for each in record["shifts"]]
    assert shares[2] > shares[0]
    assert len(record["comparisons"]) == 7 * 6 / 2
    assert record["localization"] is None
    with Image.open(files[1]) as figure:
        assert figure.width > 6 * 200
    page = files[2].read_text(encoding="utf-8")
    assert escape(record["verdict"]) in page
    assert 'src="figure1.png"' in page
    assert "http" not in page


def test_a_planted_offset_is_named_and_quantified(photos: tuple[str, ...]) -> None:
    classifier = tiny("pooled-linear", dtype=torch.float32)
    plain = run(dualcam.wrap(classifier, preprocessing=PREPROCESSING), photos)
    last = classifier.head[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.weight -= last.weight.mean(0)
        centered = run(dualcam.wrap(classifier, preprocessing=PREPROCESSING), photos)
        last.weight += 5 * last.weight.norm(dim=1).mean() * torch.ones(CHANNELS) / CHANNELS**0.5
    planted = run(dualcam.wrap(classifier, preprocessing=PREPROCESSING), photos)
    assert centered.diagnosis.arbitrary.mean < 1e-10
    assert verdict(centered.diagnosis).startswith("Practically no offset")
    assert planted.diagnosis.arbitrary.mean > max(0.5, plain.diagnosis.arbitrary.mean)
    assert verdict(planted.diagnosis).startswith(f"{100 * planted.diagnosis.arbitrary.mean:.0f} % of the energy")
    ours, theirs = (each.drawn.by_score["centered"].signed for each in (planted, centered))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_a_head_without_a_free_vector_says_so(photos: tuple[str, ...], tmp_path: Path) -> None:
    classifier = Tiny("pooled-conv")
    classifier.head = nn.Sequential(nn.Conv2d(CHANNELS, CLASSES, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = dualcam.wrap(classifier.eval(), preprocessing=PREPROCESSING)
    findings = run(model, photos)
    found = findings.diagnosis
    assert (found.shifts, found.collapse, found.recovery, found.mean_row) == (None, None, None, None)
    assert "ReLU" in (found.reason or "")
    assert "mean row" not in verdict(found)
    hardly = replace(found, arbitrary=Interval(0.002, 0.001, 0.003, 4))
    assert verdict(hardly) == "Practically no offset: 0.2 % of the energy of this model's maps is arbitrary."
    files = write_report(tmp_path, model, findings, unlabeled(photos))
    page = files[2].read_text(encoding="utf-8")
    assert "no free vector" in page
    assert "row" not in page.partition("bootstrap intervals")[0].partition("<p>")[2]


def test_true_boxes_and_labels_are_used(photos: tuple[str, ...]) -> None:
    model = wrapped("pooled-linear", dtype=torch.float32)
    whole = TrueBoxes(Boxes.of([[[0.0, 0.0, 80.0, 60.0]]] * 4))
    np.testing.assert_allclose(whole.on_grid(0, (80, 60)), [[0, 0, 224, 224]])
    stated = TrueBoxes(whole.boxes, np.array([[160, 120]] * 4))
    np.testing.assert_allclose(stated.on_grid(0, (80, 60)), [[0, 0, 112, 112]])
    inputs = Inputs(photos, np.array([0, 1, 2, 0]), whole, "labels of the data", 4)
    found = diagnose(model, inputs, SETTINGS).diagnosis
    assert found.localization is not None
    assert {each.score for each in found.localization} >= {"softmax", "softmax, shifted", "centered", "sigmoid branch"}
    assert all(each.signed.n == 4 for each in found.localization)
    assert found.accuracy is not None
    assert found.recovery is not None
    assert found.recovery.classes_trained == 3


def test_photos_of_one_class_are_not_trained_on(photos: tuple[str, ...]) -> None:
    model = wrapped("pooled-linear", dtype=torch.float32)
    inputs = Inputs(photos, np.zeros(4, dtype=np.int64), None, "labels of the data", 4)
    found = diagnose(model, inputs, SETTINGS).diagnosis
    assert found.recovery is None
    assert "one class" in (found.recovery_reason or "")


def test_broken_photos_cost_themselves(photos: tuple[str, ...], tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    model = wrapped("pooled-linear", dtype=torch.float32)
    findings = run(model, (photos[0], str(bad), *photos[1:]))
    assert findings.diagnosis.photos == 4
    assert list(findings.observed.broken) == [str(bad)]
    assert findings.observed.positions.tolist() == [0, 2, 3, 4]
    with pytest.raises(DataError, match="none of the 1 photos"):
        run(model, (str(bad),))


def test_classifiers_without_a_softmax_are_refused_with_the_reason(photos: tuple[str, ...]) -> None:
    labels = dualcam.wrap(tiny("tail", dtype=torch.float32), preprocessing=PREPROCESSING, outputs="sigmoid")
    with pytest.raises(MethodNotApplicable, match="sigmoids, one for each label"):
        run(labels, photos)
    single = tiny("pooled-linear", dtype=torch.float32)
    single.head[-1] = nn.Linear(CHANNELS, 1)
    with pytest.raises(MethodNotApplicable, match="single logit"):
        run(dualcam.wrap(single, preprocessing=PREPROCESSING), photos)


@pytest.mark.parametrize("method", ["score-cam", "eigen-cam"])
def test_methods_that_no_shift_can_be_added_to_are_refused(method: str, photos: tuple[str, ...]) -> None:
    model = wrapped("pooled-linear", dtype=torch.float32)
    with pytest.raises(MethodNotApplicable, match="use a gradient method"):
        diagnose(model, unlabeled(photos), DiagnoseSettings(method=method))


def test_a_tail_is_seen_as_its_own_model_sees_it(photos: tuple[str, ...]) -> None:
    model = wrapped("tail")
    inputs = Inputs(photos, np.array([0, 1, 2, 0]), None, "labels of the data", 4)
    findings = diagnose(model, inputs, DiagnoseSettings(draws=1, views=2))
    seen = findings.observed
    assert seen.softmax is not None
    assert seen.sigmoid is not None
    torch.testing.assert_close(seen.softmax_inputs @ seen.softmax.weight.T + seen.softmax.bias, seen.logits)
    torch.testing.assert_close(seen.inputs @ seen.sigmoid.weight.T + seen.sigmoid.bias, seen.sigmoid_logits)
    assert not torch.allclose(seen.logits, seen.sigmoid_logits)
    explained = model.explain(photos, method="grad-cam", sign="signed", branch="softmax")
    expected = np.stack([one.raw[0].numpy() for one in explained])
    np.testing.assert_allclose(findings.drawn.plain.signed, expected, rtol=1e-9, atol=1e-12)
    recovery = findings.diagnosis.recovery
    assert recovery is not None
    assert (recovery.rows, recovery.dimensions, recovery.classes_trained) == (8, CHANNELS, 3)


def test_a_head_of_zeros_is_refused(photos: tuple[str, ...]) -> None:
    classifier = tiny("tail", dtype=torch.float32)
    last = classifier.head[-1]
    assert isinstance(last, nn.Linear)
    nn.init.zeros_(last.weight)
    with pytest.raises(MethodNotApplicable, match="all rows of this head are zero"):
        run(dualcam.wrap(classifier, preprocessing=PREPROCESSING), photos)


def test_maps_of_one_cell_have_no_order(photos: tuple[str, ...], tmp_path: Path) -> None:
    classifier = tiny("pooled-linear", dtype=torch.float32)
    model = dualcam.wrap(classifier, preprocessing=dualcam.Preprocessing(size=(4, 4)), layer="features.5")
    findings = run(model, photos)
    assert findings.drawn.plain.signed.shape == (4, 1, 1)
    found = findings.diagnosis
    assert found.shifts is not None
    assert [each.agreement.rank.n for each in found.shifts] == [0, 0, 0]
    assert "no order that could be compared" in shift_words(found)
    files = write_report(tmp_path, model, findings, unlabeled(photos))
    record = json.loads(files[0].read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert record["shifts"][0]["agreement"]["rank"]["mean"] is None
    assert "nan" not in files[2].read_text(encoding="utf-8")


def test_the_page_has_the_numbers(photos: tuple[str, ...], tmp_path: Path) -> None:
    model = wrapped("pooled-linear", dtype=torch.float32)
    inputs = Inputs(photos, np.array([0, 1, 2, 0]), None, "labels of the data", 4)
    findings = diagnose(model, inputs, SETTINGS)
    files = write_report(tmp_path, model, findings, inputs, name="mine", command="dualcam diagnose mine")
    page = unescape(files[2].read_text(encoding="utf-8"))
    found = findings.diagnosis
    assert found.shifts is not None
    assert found.sigmoid_shifts is not None
    assert found.collapse is not None
    assert found.recovery is not None
    assert found.accuracy is not None
    told = [verdict(found), shift_words(found), sigmoid_words(found), recovery_words(found), collapse_words(found)]
    told += [f"on {percent(found.accuracy.mean)} the label's", "mine: what softmax left", "dualcam diagnose mine"]
    for size in found.shifts:
        intervals = (size.agreement.box_signed, size.agreement.box_positive, size.arbitrary, size.negative)
        told += [
            tiny_number(size.probability_change),
            spread(size.agreement.rank, share=False),
            *map(spread, intervals),
        ]
    for shift in found.sigmoid_shifts:
        told += [spread(shift.probability_change), f"{shift.logit_change.mean:.2f}", spread(shift.flipped)]
    told += [f"{100 * found.collapse.classes_mean:.1f}, {100 * found.collapse.classes_least:.1f}"]
    for left in found.recovery.left:
        told += [percent(left.scores), percent(left.inside)] + ([] if left.outside is None else [percent(left.outside)])
    for pair in found.comparisons:
        if "softmax" in (pair.first, pair.second):
            told += [spread(pair.agreement.rank, share=False), spread(pair.agreement.box_signed)]
    assert [text for text in told if text not in page] == []


def test_the_example_in_the_docs(
    photos: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs" / "diagnose.md").read_text(encoding="utf-8")
    code = page.partition("From Python, with a wrapped `model`:\n")[2].split("\n\n##")[0]
    folder = Path(photos[0]).parent
    monkeypatch.chdir(folder.parent)
    exec(
        compile(dedent(code).replace('"photos"', repr(folder.name)), "docs/diagnose.md", "exec"),
        {"model": wrapped("mlp")},
    )
    assert " of the energy of this model's maps is arbitrary" in capsys.readouterr().out
    record = json.loads(Path("diagnosis/diagnosis.json").read_text(encoding="utf-8"))
    assert (record["photos"], record["model"]["name"], record["command"]) == (4, "Tiny", "from Python")


def test_settings_are_checked() -> None:
    wrong: list[dict[str, Any]] = [{"sizes": ()}, {"sizes": (0.0,)}, {"draws": 0}, {"views": 0}, {"threshold": 1.0}]
    for options in wrong:
        with pytest.raises(ChoiceError):
            DiagnoseSettings(**options)
