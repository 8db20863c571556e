"""Every family of timm, every classifier of torchvision: wrapped without an argument, and checked.

The largest are checked with smaller inputs here, and at their own size where `DUALCAM_OWN_SIZE` is set.
"""

import os
import re
from pathlib import Path

import pytest
import timm
import torch
import torchvision

import dualcam
from dualcam import Preprocessing
from tests.architectures.checks import check
from tools import architectures

SAMPLE = ["vision_transformer", "mlp_mixer", "deit", "levit", "efficientformer_v2", "convnext", "swiftformer", "xcit"]
SMALLER = {
    "deepseek_vit_412m": 224,
    "gemma4_vit_167m": 192,
    "qwen3_vit_88m": 224,
    "sam2_hiera_tiny": 256,
    "regnet_y_128gf": 128,
    "efficientnet_b7": 224,
    "efficientnet_v2_l": 224,
    "efficientnet_v2_m": 224,
}
"""Input sides for members whose own takes over 4 GiB; the page has them at their own."""
ONE_SIZE = {"vit_h_14": 112}
"""The same for a model that takes one size, which its builder is told."""
OWN_SIZE = "DUALCAM_OWN_SIZE"
SHARDS = 8
PAGE = Path(__file__).resolve().parents[2] / "docs" / "architectures.md"


def smaller(name: str) -> Preprocessing | None:
    side = SMALLER.get(name)
    return None if side is None else Preprocessing(size=(side, side))


@pytest.fixture(autouse=True)
def _no_network(offline: object) -> None:
    """None of this needs a network."""


@pytest.mark.parametrize("family", SAMPLE)
def test_a_sample_of_families(family: str) -> None:
    name = architectures.members()[family]
    row = architectures.look(family, name, smaller(name))
    assert row.model is not None, row.error
    check(row.model)


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(SHARDS))
def test_every_family_of_timm(shard: int) -> None:
    members = sorted(architectures.members().items())
    failures = {}
    for family, name in members[shard::SHARDS]:
        row = architectures.look(family, name, smaller(name))  # raises all but StructureNotFound
        if row.model is None:
            failures[family] = row.error
            continue
        check(row.model)
    # 97 % of the families is the promise; all of the members known to tools/architectures.json are kept
    assert not failures


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(SHARDS))
def test_every_classifier_of_torchvision(shard: int) -> None:
    for name in architectures.torchvision_names()[shard::SHARDS]:
        if name in ONE_SIZE:
            side = ONE_SIZE[name]
            module = torchvision.models.get_model(name, weights=None, image_size=side).eval()
            check(dualcam.wrap(module, preprocessing=Preprocessing(size=(side, side))))
            continue
        row = architectures.look_at_torchvision(name, smaller(name))
        assert row.model is not None, f"{name}: {row.error}"
        check(row.model)


@pytest.mark.skipif(OWN_SIZE not in os.environ, reason=f"minutes and GiB a model; {OWN_SIZE}=1 runs them")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", sorted([*SMALLER, *ONE_SIZE]))
def test_the_largest_at_their_own_size(name: str) -> None:
    known = name in architectures.torchvision_names()
    row = architectures.look_at_torchvision(name) if known else architectures.look(name, name)
    assert row.model is not None, row.error
    assert row.model.preprocessing.size[0] > (SMALLER | ONE_SIZE)[name]
    check(row.model)


def test_the_page_has_a_line_for_each_family_and_classifier() -> None:
    page = PAGE.read_text(encoding="utf-8")
    named = re.findall(r"^\| (\S+) \| (\S+) \| (\S+) \|", page, re.MULTILINE)
    families = {first for first, _, _ in named}
    if f"## timm {timm.__version__}\n" in page:
        assert set(timm.list_modules()) <= families
    assert set(architectures.torchvision_names()) <= families
    lines = [head for first, _, head in named if first in timm.list_modules()]
    assert sum(head != "not" for head in lines) >= 0.97 * len(lines)


@pytest.mark.parametrize("family", ["vision_transformer", "convnext", "mlp_mixer"])
def test_the_page_says_what_is_found(family: str) -> None:
    row = architectures.look(family, architectures.members()[family])
    assert architectures.line(row) in PAGE.read_text(encoding="utf-8")


def test_weights_are_seeded() -> None:
    one, other = (architectures.build("test_vit").state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)
