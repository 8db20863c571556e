"""Training of classifiers: against a loop written anew, resumed, loaded, and what it leaves alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import dualcam
from dualcam import sources
from dualcam.classifier.checkpoint import load_classifier
from dualcam.classifier.fit import fit_classifier
from dualcam.classifier.network import make_ready
from dualcam.classifier.photos import EpochPhotos, deal, epoch_order
from dualcam.data.views import ViewRecipe
from dualcam.datasets import open_dataset
from dualcam.errors import CheckpointError, ChoiceError, DataError, TrainingDiverged
from dualcam.sources import LoadOptions
from dualcam.training.processes import Processes
from dualcam.training.report import Reporter
from tests.photos_on_disk import write_folder

NAME = "timm:test_resnet"
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:lightning_fabric", "ignore:.*srun.*")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_folder(tmp_path / "data", {"crane": 6, "heron": 6, "stork": 6})
    return tmp_path / "data"


def fit(data: Path, out: Path, **options: Any) -> Path:
    settings: dict[str, Any] = {"weights": "random", "epochs": 2, "lr": 0.01, "batch_size": 5, **options}
    return fit_classifier(NAME, data, out, **settings)


def weights(folder: Path) -> dict[str, Tensor]:
    return load_classifier(folder).module.state_dict()


class Killed(Exception):
    pass


class KillAfter(Reporter):
    """Raises when an epoch is told, as a kill would stop the process there: its state is not written yet."""

    def __init__(self, epoch: int) -> None:
        self.epoch_number = epoch

    def say(self, text: str) -> None:
        if text.startswith(f"epoch {self.epoch_number + 1}/"):
            raise Killed


@pytest.fixture
def in_double(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks are in double precision: batch norms over five photos turn rounding into whole digits of single."""
    load = sources.load

    def to_double(_module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (inputs[0].double(),)

    def loaded(name: str, options: LoadOptions) -> sources.Classifier:
        classifier = load(name, options)
        classifier.module.double().register_forward_pre_hook(to_double)
        return classifier

    monkeypatch.setattr(sources, "load", loaded)


@pytest.mark.usefixtures("in_double")
def test_against_a_loop_written_anew(data: Path, tmp_path: Path) -> None:
    fit(data, tmp_path / "out", val_share=0, lr_step=1, head_lr_factor=4, weight_decay=0.01, seed=5)
    dataset = open_dataset(data)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        start = sources.load(NAME, LoadOptions("random"))
    head = make_ready(start.module, start.preprocessing.size, 3, seed=5)
    module = start.module.train()
    last = set(module.get_submodule(head).parameters())
    momentum = {parameter: torch.zeros_like(parameter) for parameter in module.parameters()}
    for epoch in range(2):
        order = np.random.default_rng((5, 1, epoch)).permutation(len(dataset))
        photos = EpochPhotos(dataset, start.preprocessing, ViewRecipe("crop", 1, 0.25, 5), epoch)
        for first in range(0, len(order), 5):
            chosen = order[first : first + 5].tolist()
            images = torch.stack([photos[position][1] for position in chosen])  # type: ignore[misc]
            loss = nn.functional.cross_entropy(module(images).float(), torch.tensor(dataset.labels[chosen]))
            gradients = torch.autograd.grad(loss, list(module.parameters()))
            with torch.no_grad():
                for parameter, gradient in zip(module.parameters(), gradients, strict=True):
                    rate = 0.01 * 0.1**epoch * (4 if parameter in last else 1)
                    step = gradient + 0.01 * parameter
                    momentum[parameter] = 0.9 * momentum[parameter] + step
                    parameter.sub_(rate * (step + 0.9 * momentum[parameter]))
    trained = weights(tmp_path / "out")
    for name, tensor in module.state_dict().items():
        assert torch.allclose(tensor, trained[name], rtol=1e-6, atol=1e-9), name


def test_the_loss_falls_and_the_history_is_written(data: Path, tmp_path: Path) -> None:
    out = fit(data, tmp_path / "out", epochs=4, lr=0.02)
    header, *rows = (out / "history.csv").read_text().splitlines()
    assert header == "epoch,lr,train_loss,train_top1,val_loss,val_top1,val_top5"
    losses = [float(row.split(",")[2]) for row in rows]
    assert losses[-1] < 0.5 * losses[0]
    assert [float(row.split(",")[1]) for row in rows] == pytest.approx([0.02, 0.02, 0.02, 0.002])
    assert sorted(path.name for path in out.iterdir()) == [
        *("classifier.json", "history.csv", "history.png", "weights.safetensors")
    ]
    record = json.loads((out / "classifier.json").read_text())["training"]
    assert (record["data"]["photos"], record["processes"]) == (15, 1)


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_a_killed_run_resumes_to_the_same_bits(epoch: int, data: Path, tmp_path: Path) -> None:
    options = {"epochs": 3, "augment": "resized-crop"}
    whole = fit(data, tmp_path / "whole", **options)
    with pytest.raises(Killed):
        fit(data, tmp_path / "killed", reporter=KillAfter(epoch), **options)
    with pytest.raises(CheckpointError, match="did not finish"):
        dualcam.wrap(tmp_path / "killed")
    with pytest.raises(CheckpointError, match="go on with --resume"):
        fit(data, tmp_path / "killed", **options)
    with pytest.raises(CheckpointError, match=r"lr: 0.01 then, 0.5 now"):
        fit(data, tmp_path / "killed", resume=True, **{**options, "lr": 0.5})
    killed = fit(data, tmp_path / "killed", resume=True, **options)
    ours, theirs = weights(whole), weights(killed)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert (whole / "history.csv").read_text() == (killed / "history.csv").read_text()


def test_head_alone_leaves_the_rest_as_it_was(data: Path, tmp_path: Path) -> None:
    state = torch.random.get_rng_state()
    out = fit(data, tmp_path / "out", train="head")
    assert torch.equal(state, torch.random.get_rng_state())
    with torch.random.fork_rng():
        torch.manual_seed(0)
        start = sources.load(NAME, LoadOptions("random")).module
    head = make_ready(start, (160, 160), 3, seed=0)
    trained = weights(out)
    for name, tensor in start.state_dict().items():
        assert torch.equal(tensor, trained[name]) != name.startswith(f"{head}."), name


def test_it_is_a_model_for_everything_else(data: Path, tmp_path: Path) -> None:
    out = fit(data, tmp_path / "out")
    model = dualcam.wrap(out)
    assert model.class_names == ("crane", "heron", "stork") and model.source == f"classifier:{out.absolute()}"
    images = torch.randn(2, 3, 160, 160)
    with torch.no_grad():
        assert torch.equal(model.eval()(images).softmax, load_classifier(out).module(images))
    branch = dualcam.fit(model, data, tmp_path / "branch", epochs=1, cache_dir=tmp_path / "cache")
    again = dualcam.wrap(tmp_path / "branch")
    with torch.no_grad():
        assert torch.equal(again.eval()(images).sigmoid, branch.eval()(images).sigmoid)
    photo = data / "heron" / "00.png"
    assert again.explain(photo)[0][0].name in ("crane", "heron", "stork")
    further = fit_classifier(str(out), data, tmp_path / "further", epochs=0)
    ours, theirs = weights(out), weights(further)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours), "the same class names keep the last layer"
    assert json.loads((further / "classifier.json").read_text())["source"] == NAME


def test_the_default_network_can_be_fine_tuned(data: Path, tmp_path: Path) -> None:
    """Its directory is loaded without the weights that the network is installed with."""
    fit_classifier("builtin:efficientnet-lite0", data, tmp_path / "out", train="head", epochs=1, val_share=0)
    wrapped = dualcam.wrap(str(tmp_path / "out"))
    assert wrapped.class_names == ("crane", "heron", "stork")
    given = sources.load("builtin:efficientnet-lite0", LoadOptions()).module.state_dict()
    trained = weights(tmp_path / "out")
    assert torch.equal(trained["conv_stem.weight"], given["conv_stem.weight"])
    assert trained["classifier.weight"].shape[0] == 3


def test_damage_is_found(data: Path, tmp_path: Path) -> None:
    out = fit(data, tmp_path / "out", epochs=0)
    with (out / "weights.safetensors").open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(CheckpointError, match="not the file that classifier"):
        dualcam.wrap(out)
    (out / "classifier.json").write_text("{}")
    with pytest.raises(CheckpointError, match="damaged"):
        dualcam.wrap(out)


def test_several_labels_share_the_target(tmp_path: Path) -> None:
    from tests.training.test_multi_label import SETS, album

    dataset = album(tmp_path / "data", copies=2)
    with pytest.raises(DataError, match="--multi-label"):
        fit_classifier(NAME, dataset, tmp_path / "o", weights="random")
    still: dict[str, Any] = {"train": "head", "epochs": 1, "lr": 1e-12, "val_share": 0, "augment": "none"}
    out = fit_classifier(NAME, dataset, tmp_path / "out", weights="random", multi_label=True, **still)
    row = (out / "history.csv").read_text().splitlines()[1].split(",")
    model = load_classifier(out)
    expected, hits = 0.0, 0
    for path, labels in zip(dataset.paths, SETS * 2, strict=True):
        from dualcam.data.prepared import prepare_photo

        with torch.no_grad():
            logits = model.module(prepare_photo(model.preprocessing, tmp_path / "data" / path).tensor[None])[0]
        named = [dataset.class_names.index(str(label)) for label in labels]  # type: ignore[union-attr]
        expected -= float(logits.log_softmax(0)[named].mean()) / len(dataset)
        hits += int(logits.argmax()) in named
    assert float(row[2]) == pytest.approx(expected, rel=1e-4)
    assert float(row[3]) == pytest.approx(hits / len(dataset))


def test_broken_photos_cost_only_themselves(data: Path, tmp_path: Path) -> None:
    (data / "crane" / "broken.png").write_bytes(b"not a picture")
    out = fit(data, tmp_path / "out", val_share=0, batch_size=1)
    record = json.loads((out / "classifier.json").read_text())["training"]
    assert list(record["broken_photos"]) == ["crane/broken.png"] and record["data"]["photos"] == 18


def test_mistakes(data: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingDiverged, match="Try --lr"):
        fit(data, tmp_path / "a", lr=1e30)
    with pytest.raises(ChoiceError, match="batch_size"):
        fit(data, tmp_path / "b", batch_size=0)
    write_folder(tmp_path / "one", {"crane": 3})
    with pytest.raises(DataError, match="at least two classes"):
        fit(tmp_path / "one", tmp_path / "c")
    fit(data, tmp_path / "d", epochs=0)
    for resume in (False, True):
        with pytest.raises(CheckpointError, match="holds a trained classifier"):
            fit(data, tmp_path / "d", resume=resume)


def test_batches_are_dealt_whole() -> None:
    """Whatever the number of processes, their parts of a batch are the batch, and each has as many parts."""
    order = epoch_order(23, 0, 4)
    for world in (1, 2, 3, 7):
        parts = [deal(order, 5, Processes(rank, world)) for rank in range(world)]
        assert {len(part) for part in parts} == {5}
        for step in range(5):
            dealt = [position for part in parts for position in part[step]]
            assert sorted(dealt) == sorted(order[5 * step : 5 * step + 5].tolist())
    assert epoch_order(23, 0, 4).tolist() == order.tolist() != epoch_order(23, 0, 5).tolist()
