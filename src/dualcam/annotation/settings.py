"""What a run of `dualcam annotate` is asked for; the command takes these as its options."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dualcam.types import Branch, Fit, Normalization

LABELS = "labels"


@dataclass(frozen=True, kw_only=True)
class BoxSettings:
    """Which boxes are found. A folder of annotations has one set of these."""

    classes: tuple[str, ...] = ()
    """labels: each photo's label in the dataset (the default there); top1: the softmax branch's choice (the default
    elsewhere); top3 (any number); over0.5: every label at least that probable by the sigmoid branch; or classes by name
    or index, separated by commas."""

    multi_label: bool = False
    """All labels of a dataset's photo, where it has several; else its main one."""

    method: str | None = None
    """cam (where the head is linear, the default there), grad-cam, grad-cam++, layer-cam, xgrad-cam."""

    branch: Branch = "sigmoid"
    """Whose evidence makes the boxes."""

    sign: Literal["positive", "signed"] = "positive"
    """Evidence for the class, or all of it."""

    normalize: Normalization = "max"
    """How the map is brought to [0, 1]."""

    threshold: float = 0.2
    """Boxes surround what lies above this share of the map's maximum."""

    boxes: Literal["largest", "all"] = "largest"
    """The component with most of the evidence, or every component."""

    fit: Fit = "squash"
    """How a photo is brought to the model's input: the whole photo squashed, its centre, or the whole photo padded."""

    max_megapixels: float = 64.0
    """Larger photos are skipped, with a message."""


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """What is written of the boxes that were found; another choice of these needs no run of the model."""

    format: str = "coco"
    """coco, yolo, voc, csv or masks."""

    min_score: float = 0.0
    """Leave out boxes of classes whose softmax probability is lower."""

    drop_empty: bool = False
    """Leave photos without boxes out of the files; trainers take those that are listed for background."""

    root: Path | None = None
    """Folder that names of photos in the files start from (default: the dataset's; without one, names as given)."""

    yolo_scores: bool = False
    """Write the score as a sixth column, which most trainers reject; scores.csv has it in any case."""

    yolo_images: Literal["link", "list"] = "link"
    """link: images/ holds a link to each photo, where trainers look for it; list: train.txt names the photos."""
