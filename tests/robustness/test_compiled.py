"""Models that `torch.compile` made, or that have compiled parts, are explained as what they were made of."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

import dualcam
from dualcam.types import HeadKind
from tests.models import KINDS, PREPROCESSING, Tiny, images, maps, tiny
from tests.observe import changed, snapshot

pytestmark = [
    pytest.mark.slow,  # loading the compiler takes seconds
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch"),
]


class Counting:
    """A backend that runs the graph as it is and counts the graphs that it was given."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: torch.fx.GraphModule, _inputs: list[Tensor]) -> Callable[..., object]:
        self.graphs += 1
        return graph.forward


def as_a_whole(model: Tiny, backend: Counting) -> nn.Module:
    compiled = torch.compile(model, backend=backend)
    assert isinstance(compiled, nn.Module)
    return compiled


def in_place(model: Tiny, backend: Counting) -> nn.Module:
    model.compile(backend=backend)
    return model


def in_part(model: Tiny, backend: Counting) -> nn.Module:
    model.features = as_a_whole(model.features, backend)  # type: ignore[arg-type, assignment]
    return model


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("how", [as_a_whole, in_place, in_part])
@pytest.mark.parametrize("kind", KINDS)
def test_compiled_models(kind: HeadKind, how: Callable[[Tiny, Counting], nn.Module], warm: bool) -> None:
    torch.compiler.reset()
    expected = maps(dualcam.wrap(tiny(kind), preprocessing=PREPROCESSING).explain(images(), "all", method="grad-cam"))
    backend = Counting()
    classifier = how(tiny(kind), backend)
    batch = images()
    logits = classifier(batch)
    with torch.no_grad():  # the code that explain would run, made before anybody asked for hooks
        classifier(batch)
    graphs, before = backend.graphs, snapshot(classifier)
    assert graphs > 0
    model = dualcam.wrap(classifier, preprocessing=PREPROCESSING)
    for _ in range(2):
        assert torch.equal(maps(model.explain(batch, "all", method="grad-cam")), expected)
        if warm:
            classifier(batch)
    assert changed(before, snapshot(classifier)) == []
    assert torch.equal(classifier(batch), logits)
    assert backend.graphs == graphs, "explaining made the user's model compile again"
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: maps(model.explain(batch, "all", method="grad-cam")), range(8)))
    assert all(torch.equal(item, expected) for item in found)


def test_a_compiled_model_can_be_optimized() -> None:
    torch.compiler.reset()
    backend = Counting()
    model = dualcam.wrap(as_a_whole(tiny("mlp", dtype=torch.float32), backend), preprocessing=PREPROCESSING)
    fast = dualcam.optimize(model)
    assert fast.optimization is not None
    assert all(step.kept for step in fast.optimization.steps)
    batch = images(dtype=torch.float32)
    torch.testing.assert_close(
        maps(fast.explain(batch, "all")), maps(model.explain(batch, "all")), rtol=1e-4, atol=1e-5
    )
