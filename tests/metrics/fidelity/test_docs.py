"""docs/fidelity.md names every metric, with its unit, direction and cost."""

import re

import pytest

from dualcam.metrics import fidelity
from dualcam.metrics.fidelity_settings import FidelitySettings
from tests.conftest import ROOT

ROWS = {
    cells[0].strip("` "): [cell.strip() for cell in cells[1:]]
    for line in (ROOT / "docs" / "fidelity.md").read_text(encoding="utf-8").splitlines()
    if re.match(r"\| `[a-z-]+` \|", line) and len(cells := line.strip("|").split("|")) == 6
}


def test_all_metrics_are_there() -> None:
    assert set(ROWS) == set(fidelity.available())


@pytest.mark.parametrize("name", fidelity.available())
def test_what_is_said_of_a_metric(name: str) -> None:
    metric = fidelity.get(name)
    _, unit, better, cost, _ = ROWS[name]
    assert ("percent" in unit) == (metric.unit == "percent")
    assert unit.removeprefix("percent, ").startswith(f"{metric.low:g} ")
    assert better == metric.better
    assert int(cost) == metric.cost(FidelitySettings())
