"""A loop over many images takes what one image takes."""

import gc
import weakref
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dualcam import DualBranch
from dualcam.types import HeadKind
from tests.models import images, wrapped

CALLS = 10_000


def hooks(model: DualBranch) -> int:
    return sum(
        len(table)
        for module in model.modules()
        for name, table in vars(module).items()
        if name.endswith("_hooks") and table is not None
    )


def tensors() -> int:
    gc.collect()
    return sum(issubclass(type(item), Tensor) for item in gc.get_objects())


def resident() -> int:
    """Return the resident size of this process in KiB; 0 where the system does not tell."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    return int(next(line for line in status.read_text().splitlines() if line.startswith("VmRSS")).split()[1])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pooled-linear", "mlp"])
def test_ten_thousand_calls_leave_nothing(kind: HeadKind) -> None:
    model = wrapped(kind, dtype=torch.float32)
    batch = images(1, dtype=torch.float32)

    def run(calls: int) -> None:
        for call in range(calls):
            model.explain(batch, call % 5, method="layer-cam")

    run(200)
    before = hooks(model), tensors(), len(gc.get_objects()), resident()
    run(CALLS)
    after = hooks(model), tensors(), len(gc.get_objects()), resident()
    assert after[0] == before[0]
    assert after[1] <= before[1]
    assert after[2] - before[2] < 200
    assert after[3] - before[3] < 4096, "KiB; 10,000 kept maps alone would be 2 MiB, their explanations 20"


@pytest.mark.parametrize("kind", ["pooled-linear", "mlp"])
def test_an_explanation_holds_its_own_maps_only(kind: HeadKind) -> None:
    model = wrapped(kind)
    kept: list[weakref.ref[Tensor]] = []
    layer = model.classifier.get_submodule(model.anatomy.layer)
    handle = layer.register_forward_hook(lambda _m, _i, output: kept.append(weakref.ref(output)))
    explanations = model.explain(images(), "all", method="layer-cam")
    handle.remove()
    gc.collect()
    (activations,) = kept
    assert activations() is None, "an explanation holds the whole batch's activations"
    assert explanations[0].signed.untyped_storage().nbytes() <= 2 * explanations[0].signed.nbytes * len(explanations)


def test_a_failing_call_keeps_nothing_either() -> None:
    model = wrapped("mlp")
    last = model.sigmoid_head.last_layer()
    assert isinstance(last, nn.Linear)
    last.register_forward_hook(lambda *_: 1 / 0)
    before = hooks(model), tensors()
    for _ in range(20):
        with pytest.raises(ZeroDivisionError):
            model.explain(images())
    assert (hooks(model), tensors()) == before
