"""The frozen part in train mode, as the published code runs it, and in mixed precision."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

import dualcam
from dualcam.card import make_card
from dualcam.cli.main import run
from dualcam.data.photos import open_photo
from dualcam.data.preprocessing import place
from dualcam.datasets import open_dataset
from dualcam.errors import ChoiceError, ModelError
from dualcam.model import DualBranch
from dualcam.training.processes import Processes
from dualcam.types import HeadKind
from tests.killed import KillAfter, Killed
from tests.models import CHANNELS, KINDS, PREPROCESSING, Tiny, tiny
from tests.observe import changed, snapshot

PUBLISHED: dict[str, Any] = {"frozen_mode": "train", "cache": False, "val_share": 0, "lr": 0.2, "batch_size": 7}


def wrapped(kind: HeadKind = "pooled-linear", dropout: float = 0.5) -> DualBranch:
    classifier = tiny(kind, dtype=torch.float32)
    for module in classifier.modules():
        if isinstance(module, nn.Dropout):
            module.p = dropout
    return dualcam.wrap(classifier, preprocessing=PREPROCESSING)


def branch_of(model: DualBranch) -> list[Tensor]:
    return [parameter.detach() for parameter in model.sigmoid_head.parameters()]


def distance(one: DualBranch, other: DualBranch) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(branch_of(one), branch_of(other), strict=True))


def naive(model: DualBranch, photos: Path, *, epochs: int) -> list[Tensor]:
    """Train a copy's last layer with the rest in train mode, by PyTorch alone; return its weight and bias."""
    network = deepcopy(model.classifier).train().requires_grad_(False)
    assert isinstance(network, Tiny)
    last = next(part for part in network.head if isinstance(part, nn.Linear | nn.Conv2d)).requires_grad_(True)
    dataset = open_dataset(photos)
    images = torch.stack(
        [PREPROCESSING.normalize(place(open_photo(photos / path), PREPROCESSING)[0]) for path in dataset.paths]
    )
    labels = torch.from_numpy(dataset.labels)
    groups = [{"params": [last.weight], "weight_decay": 5e-4}, {"params": [last.bias], "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=0.2, momentum=0.9, nesterov=True)
    for epoch in range(epochs):
        order = np.random.default_rng((0, 1, epoch)).permutation(len(images))
        for rows in torch.split(torch.from_numpy(order), 7):
            scores = network(images[rows])
            wanted = functional.one_hot(labels[rows], 5)
            terms = 4 * wanted * functional.logsigmoid(scores) + (1 - wanted) * functional.logsigmoid(-scores)
            optimizer.zero_grad()
            torch.autograd.backward([-terms.mean()])
            optimizer.step()
    assert last.bias is not None
    return [last.weight.detach(), last.bias.detach()]


@pytest.mark.parametrize("kind", ["pooled-linear", "pooled-conv"])
def test_batch_statistics_are_those_of_a_naive_loop(kind: HeadKind, photos: Path) -> None:
    model = wrapped(kind, dropout=0.0)
    trained = dualcam.fit(model, photos, epochs=3, augment="none", **PUBLISHED)
    for ours, theirs in zip(branch_of(trained), naive(model, photos, epochs=3), strict=True):
        assert (ours - theirs).abs().max() < 1e-5
    usual = dualcam.fit(model, photos, epochs=3, augment="none", **{**PUBLISHED, "frozen_mode": "eval"})
    assert distance(trained, usual) > 1e-3


@pytest.mark.parametrize("kind", ["pooled-linear", "pooled-conv", "tail"])
def test_dropout_before_the_branch_is_on(kind: HeadKind, photos: Path) -> None:
    """With all of the features dropped the weights have no gradient; the bias goes on learning."""
    model = wrapped(kind, dropout=1.0)
    trained = dualcam.fit(model, photos, epochs=1, weight_decay=0.0, **PUBLISHED)
    before, after = (one.sigmoid_head.last_layer() for one in (model, trained))
    assert before is not None and after is not None
    assert torch.equal(before.weight, after.weight)
    assert before.bias is not None and after.bias is not None and not torch.equal(before.bias, after.bias)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ends", ["well", "badly"])
def test_nothing_of_the_model_changes(kind: HeadKind, ends: str, photos: Path) -> None:
    model = wrapped(kind)
    model.classifier.train()
    model.classifier.features[1].eval()  # type: ignore[index, union-attr]
    before, generator = snapshot(model.classifier), torch.get_rng_state()
    if ends == "well":
        trained = dualcam.fit(model, photos, epochs=2, **{**PUBLISHED, "lr": None})
        assert trained.classifier is model.classifier
        assert changed(before, snapshot(trained.classifier)) == []
        assert distance(model, trained) > 0
    else:
        with pytest.raises(Killed):
            dualcam.fit(model, photos, epochs=2, reporter=KillAfter(0), **PUBLISHED)
    assert changed(before, snapshot(model.classifier)) == []
    assert torch.equal(generator, torch.get_rng_state())


class NormHead(nn.Module):
    """A classifier whose head has a batch norm of its own: the branch's copy has running statistics that learn."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv2d(3, CHANNELS, 3, stride=4), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.norm = nn.BatchNorm1d(CHANNELS)
        self.fc = nn.Linear(CHANNELS, 5)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.norm(self.pool(self.features(images)).flatten(1)))
        return logits


@pytest.mark.parametrize("kind", ["pooled-linear", "mlp", "own norm"])
def test_a_killed_run_resumes_bit_identical(kind: Any, photos: Path, tmp_path: Path) -> None:
    def model() -> DualBranch:
        return dualcam.wrap(NormHead().eval(), preprocessing=PREPROCESSING) if kind == "own norm" else wrapped(kind)

    options = {**PUBLISHED, "epochs": 3, "views": 2, "lr": None, "batch_size": 8}
    whole = dualcam.fit(model(), photos, tmp_path / "whole", **options)
    with pytest.raises(Killed):
        dualcam.fit(model(), photos, tmp_path / "killed", reporter=KillAfter(1), **options)
    torch.rand(3)  # the global generator stands elsewhere
    resumed = dualcam.fit(model(), photos, tmp_path / "killed", resume=True, **options)
    ours, theirs = (one.sigmoid_head.state_dict() for one in (whole, resumed))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert (tmp_path / "whole/history.csv").read_text() == (tmp_path / "killed/history.csv").read_text()


def test_what_can_not_be_had_is_refused_with_the_reason(photos: Path, tmp_path: Path) -> None:
    for changes, text in (
        ({"frozen_mode": "train"}, r"--frozen-mode train can not be had of a feature cache.*company.*--no-cache"),
        ({"precision": "bf16-mixed"}, r"--precision bf16-mixed can not be had of a feature cache.*--no-cache"),
        ({"precision": "16-mixed", "cache": False}, r"16-mixed needs an accelerator.*cpu.*bf16-mixed"),
        ({"frozen_mode": "other"}, "frozen_mode"),
    ):
        with pytest.raises(ChoiceError, match=text):
            dualcam.fit(wrapped(), photos, tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


def test_several_processes_are_refused(photos: Path, tmp_path: Path) -> None:
    class Fabric:
        device = torch.device("cpu")

    processes = Processes(0, 2, Fabric())
    with pytest.raises(ChoiceError, match=r"whole batch, of which each of 2 processes has only a part.*--devices 1"):
        dualcam.fit(wrapped(), photos, tmp_path / "out", processes=processes, **PUBLISHED)


def test_a_batch_without_statistics_is_told(photos: Path) -> None:
    model = dualcam.wrap(NormHead().eval(), preprocessing=PREPROCESSING)
    with pytest.raises(ModelError, match=r"batch of 1 photo.*--batch-size"):
        dualcam.fit(model, photos, epochs=1, augment="none", **{**PUBLISHED, "batch_size": 29})


def test_a_model_that_can_not_be_copied_is_told(photos: Path) -> None:
    model = wrapped()
    model.classifier.hold = (name for name in "ab")  # type: ignore[assignment]
    with pytest.raises(ModelError, match=r"can not be copied.*--frozen-mode eval"):
        dualcam.fit(model, photos, epochs=1, **PUBLISHED)


def test_the_card_and_the_settings_tell(photos: Path, tmp_path: Path) -> None:
    (photos / "0" / "broken.png").write_bytes(b"not a picture")
    dualcam.fit(wrapped(), photos, tmp_path / "out", epochs=1, **PUBLISHED)
    manifest = json.loads((tmp_path / "out" / "dualcam.json").read_text(encoding="utf-8"))
    assert manifest["training"]["settings"]["frozen_mode"] == "train"
    assert list(manifest["training"]["broken_photos"]) == ["0/broken.png"]
    assert "| frozen_mode | train |" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    manifest["training"]["settings"]["frozen_mode"] = "eval"
    assert "frozen_mode" not in make_card(manifest)


def test_mixed_precision_of_the_frozen_part(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In bfloat16 features have about three digits; the branch and what is kept of it are float32."""
    monkeypatch.chdir(tmp_path)
    classifier = ["train-classifier", str(photos), "-m", "timm:test_resnet", "--weights", "random", "--device", "cpu"]
    classifier += ["--epochs", "2", "--lr", "0.01", "--val-share", "0"]
    branch = ["train", str(photos), "--no-cache", "--epochs", "2", "--lr", "0.1", "--device", "cpu", "--val-share", "0"]
    kept = {}
    for precision in ("32-true", "bf16-mixed"):
        assert run([*classifier, "--precision", precision, "-o", f"net-{precision}"]) == 0
        assert run([*branch, "--model", "net-32-true", "--precision", precision, "-o", f"branch-{precision}"]) == 0
        files = (f"net-{precision}/weights.safetensors", f"branch-{precision}/branch.safetensors")
        kept[precision] = [load_file(file) for file in files]
    for full, mixed in zip(kept["32-true"], kept["bf16-mixed"], strict=True):
        assert full.keys() == mixed.keys()
        for name, tensor in full.items():
            assert mixed[name].dtype == tensor.dtype and tensor.dtype in (torch.float32, torch.int64)
            assert bool(mixed[name].isfinite().all())
            assert (mixed[name] - tensor).abs().max() < 0.03
        assert any(not torch.equal(mixed[name], tensor) for name, tensor in full.items()), "it was another precision"
    capsys.readouterr()
    for command in (classifier, [*branch, "--model", "net-32-true"]):
        assert run([*command, "--precision", "16-mixed", "-o", "never"]) == 2
        assert "--precision 16-mixed needs an accelerator" in capsys.readouterr().err
    assert not Path("never").exists()
