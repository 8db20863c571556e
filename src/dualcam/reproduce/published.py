"""The authors' figures, to stand beside ours."""

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

FILE = Path(__file__).parent / "published.yaml"
TABLES = ("table1", "table2")


class Pair(NamedTuple):
    """A figure in percent: of the base method, and with the dual branch."""

    base: float
    dual: float


@cache
def _content() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return content


def caveat() -> str:
    """Return what has to be said beside the published figures."""
    return str(_content()["caveat"])


def datasets(table: str) -> tuple[str, ...]:
    """Return the datasets of ``table``."""
    return tuple(_content()[table])


def metrics(table: str, dataset: str) -> tuple[str, ...]:
    """Return the metrics that ``table`` has for ``dataset``, in its order."""
    rows = _content()[table][dataset]
    return tuple(dict.fromkeys(name for methods in rows.values() for row in methods.values() for name in row))


def published(table: str, dataset: str, backbone: str, method: str) -> dict[str, Pair]:
    """Return the published pairs of a row by metric; empty where the table has no such row."""
    row = _content().get(table, {}).get(dataset, {}).get(backbone, {}).get(method, {})
    return {name: Pair(*map(float, pair)) for name, pair in row.items()}
