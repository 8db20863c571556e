"""Photos with several labels: targets, weights, figures, and that one label a photo changes nothing."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import dualcam
from dualcam import DualBranch
from dualcam.data.label_sets import LabelSets
from dualcam.data.multi_label import with_all_labels
from dualcam.datasets import Dataset, hold_out, open_dataset
from dualcam.errors import ChoiceError, DataError
from dualcam.labels import label_probabilities, positive_weight
from dualcam.losses import positive_weights
from dualcam.metrics.label_ap import label_average_precision, mean_average_precision
from dualcam.targets import to_probabilities
from dualcam.types import Outputs
from tests.conftest import ROOT
from tests.models import PREPROCESSING, images, tiny
from tests.photos_on_disk import write_photo

SETS = [[0, 2], [1], [2], [0, 1, 2], [2, 4], [1, 0]]


def wrapped(**options: Any) -> DualBranch:
    return dualcam.wrap(tiny("pooled-linear", dtype=torch.float32), preprocessing=PREPROCESSING, **options)


def album(root: Path, sets: list[list[int]] = SETS, copies: int = 4) -> Dataset:
    """Photos of one to three labels, as labels.csv names them."""
    rows = ["path,labels"]
    for number in range(copies):
        for place, labels in enumerate(sets):
            path = f"{number}-{place}.png"
            write_photo(root / path, labels[0], seed=10 * number + place)
            rows.append(f"{path},{';'.join(map(str, labels))}")
    (root / "labels.csv").write_text("\n".join(rows))
    dataset = open_dataset(root)
    assert dataset.class_names is not None
    return dataset


def parameters(model: DualBranch) -> list[torch.Tensor]:
    return [parameter.detach() for parameter in model.sigmoid_head.parameters()]


@pytest.mark.parametrize("options", [{}, {"fit_head": "linear"}, {"balance": "frequency", "solver": "lbfgs"}], ids=str)
def test_one_label_a_photo_trains_the_same_branch(options: dict[str, Any], photos: Path) -> None:
    settings = {"epochs": 2, "views": 2, **options}
    single = dualcam.fit(wrapped(), photos, **settings)
    several = dualcam.fit(wrapped(), photos, multi_label=True, **settings)
    for a, b in zip(parameters(single), parameters(several), strict=True):
        assert torch.equal(a, b) if "fit_head" not in options else torch.allclose(a, b, rtol=0, atol=1e-6)
    one, other = (trained.training_record for trained in (single, several))
    assert one is not None and other is not None
    assert one["last_epoch"]["val_branch_top1"] == other["last_epoch"]["val_branch_top1"]
    assert one["last_epoch"]["val_branch_map"] is None and 0 < other["last_epoch"]["val_branch_map"] <= 1


def test_frequency_weights_are_counted_over_photos() -> None:
    labels = torch.tensor([label for labels in SETS for label in labels])
    naive = []
    for k in range(5):
        with_label = sum(k in labels for labels in SETS)
        naive.append((len(SETS) - with_label) / with_label if with_label else 4.0)
    assert positive_weights(labels, 5, "frequency", len(SETS)).tolist() == pytest.approx(naive)
    assert positive_weights(labels, 5, "uniform", len(SETS)).tolist() == [4] * 5


def test_weights_of_a_run_are_recorded_and_leave_broken_photos_out(tmp_path: Path) -> None:
    dataset = album(tmp_path)
    (tmp_path / "0-3.png").write_bytes(b"not a picture")
    trained = dualcam.fit(
        wrapped(), dataset, tmp_path / "out", multi_label=True, balance="frequency", epochs=1, val_share=0
    )
    sets = [labels for number in range(4) for place, labels in enumerate(SETS) if (number, place) != (0, 3)]
    counts = [sum(k in labels for labels in sets) for k in range(5)]
    expected = [None if not count else (len(sets) - count) / count for count in counts]
    again = dualcam.wrap(tmp_path / "out", backbone=wrapped().classifier)
    for model in (trained, again):
        assert model.training_record is not None
        known = model.training_record["positive_weight"]
        assert [weight is None for weight in known] == [count == 0 for count in counts]
        assert [w for w in known if w is not None] == pytest.approx([w for w in expected if w is not None])
        assert model.training_record["settings"]["multi_label"] is True
    assert positive_weight(again)[3] == math.inf
    assert label_probabilities(again, torch.full((1, 5), 9.0))[0, 3] == 0


def test_the_loss_is_that_of_the_labels(tmp_path: Path) -> None:
    """The first epoch's loss at a rate that moves nothing is the formula's on multi-hot targets, added up by hand."""
    dataset = album(tmp_path)
    model = wrapped()
    trained = dualcam.fit(
        model,
        dataset,
        tmp_path / "out",
        multi_label=True,
        epochs=1,
        lr=1e-12,
        augment="none",
        val_share=0,
        weight_decay=0,
    )
    assert trained.training_record is not None
    from dualcam.data.prepared import prepare_photo
    from dualcam.explainer import run_model

    total, seen = 0.0, 0
    for path, labels in zip(dataset.paths, SETS * 4, strict=True):
        logits = run_model(model, [prepare_photo(model.preprocessing, tmp_path / path)]).logits[0].double()
        for k in (0, 1, 2, 4):  # class 3 has no photos: positives weigh as three others' negatives
            p = 1 / (1 + math.exp(-float(logits[k])))
            total += -3 * math.log(p) if k in labels else -math.log(1 - p)
            seen += 1
    assert trained.training_record["last_epoch"]["train_loss"] == pytest.approx(total / seen, rel=1e-5)


def test_the_optimum_gives_back_how_common_labels_are() -> None:
    """Features that say nothing: sigma(s - log p) is the share of photos with the label, whatever the weights."""
    shares = torch.tensor([0.5, 0.1, 0.9])
    model = wrapped()
    for weight in (torch.tensor([1.0, 9.0, 1 / 9]), torch.full((3,), 2.0)):
        optimum = (weight * shares / (1 - shares)).log()
        model.training_record = {"positive_weight": weight.tolist()}
        assert torch.allclose(label_probabilities(model, optimum[None])[0], shares)


def test_probabilities_of_branches_without_noted_weights() -> None:
    model = wrapped()
    with pytest.raises(ChoiceError, match="clone of the softmax head; train it"):
        positive_weight(model)
    assert positive_weight(wrapped(outputs="sigmoid")).tolist() == [1] * 5
    for balance, expected in (("uniform", 4), ("none", 1)):
        model.training_record = {"settings": {"balance": balance}}
        assert positive_weight(model).tolist() == [expected] * 5
    model.training_record = {"settings": {"balance": "frequency"}}
    with pytest.raises(ChoiceError, match="train it again"):
        positive_weight(model)


def test_several_labels_without_the_flag(tmp_path: Path) -> None:
    dataset = album(tmp_path)
    with pytest.raises(DataError, match=r"16 of 24 photos .* several labels; train .* --multi-label"):
        dualcam.fit(wrapped(), dataset, epochs=1)


def test_history_has_map_columns(tmp_path: Path) -> None:
    dataset = album(tmp_path / "data")
    dualcam.fit(wrapped(), dataset, tmp_path / "out", multi_label=True, epochs=2, val_share=0.3)
    header, *rows = (tmp_path / "out/history.csv").read_text().splitlines()
    assert header.endswith("val_softmax_top1,val_branch_map,val_softmax_map")
    assert all(0 < float(value) <= 1 for row in rows for value in row.split(",")[-2:])
    manifest = json.loads((tmp_path / "out/dualcam.json").read_text())
    assert manifest["head"]["outputs"] == "softmax"


def test_a_killed_run_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    from tests.killed import KillAfter, Killed

    dataset = album(tmp_path / "data")
    options: dict[str, Any] = {
        "multi_label": True,
        "balance": "frequency",
        "fit_head": "linear",
        "epochs": 4,
        "views": 2,
    }
    whole = dualcam.fit(wrapped(), dataset, tmp_path / "whole", **options)
    with pytest.raises(Killed):
        dualcam.fit(wrapped(), dataset, tmp_path / "killed", reporter=KillAfter(1), **options)
    resumed = dualcam.fit(wrapped(), dataset, tmp_path / "killed", resume=True, **options)
    assert all(torch.equal(a, b) for a, b in zip(parameters(whole), parameters(resumed), strict=True))
    assert (tmp_path / "whole/history.csv").read_text() == (tmp_path / "killed/history.csv").read_text()


def test_a_classifier_with_a_sigmoid_for_each_label_keeps_it(tmp_path: Path) -> None:
    model = wrapped(outputs="sigmoid")
    explained = model.explain(images(2, torch.float32), "all")
    for item in explained:
        assert torch.allclose(item.probabilities, item.logits.softmax.sigmoid())
    dataset = album(tmp_path / "data")
    trained = dualcam.fit(model, dataset, tmp_path / "out", multi_label=True, labels="soft", epochs=1)
    assert trained.outputs == "sigmoid"
    again = dualcam.wrap(tmp_path / "out", backbone=model.classifier)
    assert again.outputs == "sigmoid" and "a sigmoid for each label" in again.describe()
    fitted = dualcam.fit(model, dataset, multi_label=True, fit_head="linear", epochs=1)
    assert fitted.outputs == "softmax", "the fitted head is a softmax head"
    logits = torch.tensor([[0.0, 3.0]])
    assert to_probabilities(logits, "sigmoid").tolist()[0] == pytest.approx([0.5, 1 / (1 + math.exp(-3))])


def test_fitted_head_shares_a_photos_probability_among_its_labels(tmp_path: Path) -> None:
    """Its cross-entropy with 1/k targets is the mean of that of k photos with one label each, weighted 1/k."""
    from dualcam.training.probe import fit_linear_head

    class Rows:
        views = 1

        def __init__(self, values: torch.Tensor) -> None:
            self.broken: dict[str, str] = {}
            self.values = values
            self.usable = np.ones(len(values), dtype=bool)

        def batches(self, order: NDArray[np.int64], batch_size: int, epoch: int) -> Any:
            yield order, self.values[torch.from_numpy(order)]

    values = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    lists = [SETS[n % len(SETS)] for n in range(60)]
    # Six copies make shares whole: a photo of k labels stands as 6 / k photos of each of them.
    copies = [(n, label) for n, labels in enumerate(lists) for label in labels for _ in range(6 // len(labels))]
    several = fit_linear_head(Rows(values), LabelSets.of(lists), 5, weight_decay=0.01)
    single = fit_linear_head(
        Rows(values[[n for n, _ in copies]]), torch.tensor([k for _, k in copies]), 5, weight_decay=0.01
    )
    assert torch.allclose(several.weight, single.weight, atol=1e-4)
    assert torch.allclose(several.bias, single.bias, atol=1e-4)


def test_average_precision_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import average_precision_score

    generator = np.random.default_rng(0)
    for ties in (False, True):
        scores = generator.normal(size=(40, 6))
        scores = scores.round(0) if ties else scores
        truth = generator.random((40, 6)) < 0.3
        truth[:, 5] = False
        found = label_average_precision(scores, truth)
        expected = [average_precision_score(truth[:, k], scores[:, k]) for k in range(5)]
        assert found[:5] == pytest.approx(expected, abs=1e-12) and math.isnan(found[5])
        assert mean_average_precision(scores, truth) == pytest.approx(np.mean(expected))
    assert mean_average_precision(np.zeros((4, 2)), np.eye(4, 2)) == pytest.approx(0.25)
    with pytest.raises(ValueError, match="one shape"):
        label_average_precision(np.zeros((4, 2)), np.zeros((4, 3)))


@pytest.mark.parametrize("outputs", ["softmax", "sigmoid"])
def test_the_card_tells_the_mean_average_precision_of_both_branches(tmp_path: Path, outputs: Outputs) -> None:
    """Against scikit-learn on the photos held out, from the trained model's logits."""
    from sklearn.metrics import average_precision_score

    dataset = album(tmp_path / "data")
    model = dualcam.fit(
        wrapped(outputs=outputs), dataset, tmp_path / "out", multi_label=True, epochs=2, val_share=0.3, augment="none"
    )
    held = with_all_labels(hold_out(dataset, 0.3, 0)[1])
    sets, names = held.label_sets, held.class_names
    assert sets is not None and names == ("0", "1", "2", "4"), "the model's classes are called by their index"
    truth = np.zeros((len(held), 5))
    truth[:, [int(name) for name in names]] = sets.multi_hot(np.arange(len(held)), 4)
    told = model.explain([held.root / path for path in held.paths], "all")
    expected = []
    for branch in ("softmax", "sigmoid"):
        scores = np.stack([getattr(item.logits, branch)[item.indices.argsort()] for item in told])
        found = [average_precision_score(truth[:, k], scores[:, k]) for k in range(5) if truth[:, k].any()]
        expected.append(f"{100 * np.mean(found):.1f} %")
    assert expected[0] != expected[1]
    own = "softmax" if outputs == "softmax" else "classifier's own"
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert f"{own} branch {expected[0]}, sigmoid branch {expected[1]}." in card
    single = tmp_path / "single"
    dualcam.fit(wrapped(), album(tmp_path / "plain", [[0], [1], [2]]), single, epochs=1, val_share=0.3)
    assert "average precision" not in (single / "README.md").read_text(encoding="utf-8")


def trained_on(tmp_path: Path) -> tuple[DualBranch, Dataset]:
    dataset = album(tmp_path / "data")
    options: dict[str, Any] = {"multi_label": True, "balance": "frequency", "fit_head": "linear", "solver": "lbfgs"}
    model = dualcam.fit(wrapped(), dataset, augment="none", val_share=0, weight_decay=1e-3, **options)
    return model, dataset


def test_labels_over_a_threshold(tmp_path: Path) -> None:
    model, dataset = trained_on(tmp_path)
    paths = [tmp_path / "data" / path for path in dataset.paths]
    everything = model.explain(paths, "all", batch_size=5)
    logits = torch.stack([item.logits.sigmoid for item in everything])
    probabilities = label_probabilities(model, logits)
    least = 0.45
    lengths = set()
    for batch_size in (1, 5, 24):
        found = model.explain(paths, f"over{least}", batch_size=batch_size)
        for item, row, full in zip(found, probabilities, everything, strict=True):
            expected = [k for k in row.argsort(descending=True).tolist() if row[k] >= least]
            assert item.indices.tolist() == expected
            lengths.add(len(expected))
            for evidence in item:
                assert torch.allclose(evidence.signed, full.signed[evidence.index], atol=1e-6)
                assert evidence.sigmoid_logit == pytest.approx(float(full.logits.sigmoid[evidence.index]), abs=1e-5)
    assert len(lengths) > 1, "photos have different numbers of labels here"


def test_of_some_photos_no_label_is_over_the_threshold(tmp_path: Path) -> None:
    model, dataset = trained_on(tmp_path)
    found = model.explain(tmp_path / "data" / dataset.paths[0], "over1")[0]
    assert len(found) == 0 and list(found) == [] and found.signed.shape[0] == 0
    with pytest.raises(ChoiceError, match="no label of this photo is over the threshold"):
        found.heatmap()


def test_labels_over_a_threshold_in_every_kind_of_head() -> None:
    model = dualcam.wrap(tiny("mlp", dtype=torch.float32), preprocessing=PREPROCESSING)
    model.training_record = {"positive_weight": 1.0}
    found = model.explain(images(3, torch.float32), "over0.5", method="grad-cam")
    assert {len(item) for item in found} != {0}
    assert all(float(one.sigmoid_logit) >= 0 for item in found for one in item)


@pytest.mark.parametrize("classes", ["over0", "over1.5"])
def test_thresholds_are_probabilities(classes: str) -> None:
    model = wrapped()
    model.training_record = {"positive_weight": 1.0}
    with pytest.raises(ChoiceError, match=r"lies in \(0, 1\]"):
        model.explain(images(1, torch.float32), classes)


def test_a_class_called_over2_is_a_class() -> None:
    model = wrapped(class_names=["over0.5", "b", "c", "d", "e"])
    assert model.explain(images(1, torch.float32), "over0.5")[0].indices.tolist() == [0]


def test_all_labels_of_the_held_out_photos(tmp_path: Path) -> None:
    full = with_all_labels(album(tmp_path))
    assert full.label_sets is not None
    half = replace(full).subset([3, 0])
    assert half.label_sets is not None
    assert [half.label_sets[n].tolist() for n in range(2)] == [full.label_sets[3].tolist(), full.label_sets[0].tolist()]


def test_the_snippet_of_the_documentation_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (ROOT / "docs/training.md").read_text(encoding="utf-8")
    snippet = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)[0]
    model, _ = trained_on(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name, label in (("a.jpg", 0), ("b.jpg", 1)):
        write_photo(tmp_path / name, label)
    monkeypatch.setattr(dualcam, "wrap", lambda path: model, raising=False)
    exec(compile(snippet, "training.md", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) == 2
