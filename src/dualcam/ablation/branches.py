"""Trained branches kept on disk, by what decides their content: a second study trains nothing."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from dualcam import checkpoint
from dualcam.data.multi_label import with_all_labels
from dualcam.datasets import Dataset
from dualcam.heads import Head
from dualcam.model import DualBranch
from dualcam.training.fit import fit
from dualcam.training.report import Reporter
from dualcam.training.settings import TrainingSettings

BRANCH_FORMAT = 1


@dataclass
class Shelf:
    """Where branches and features are kept, and who watches what has to be made; it counts both.

    A branch is a checkpoint directory in ``home``/branches, named by `branch_key`; one whose training was killed
    goes on with its next epoch.
    """

    home: Path
    report: Reporter
    workers: int = 0
    made: int = 0
    found: int = 0

    def branch(self, model: DualBranch, photos: Dataset, settings: TrainingSettings) -> DualBranch:
        """Return ``model`` with a branch trained on ``photos``; with a fitted head where the settings ask for one."""
        folder = self.home / "branches" / branch_key(model, photos, settings)
        if (folder / checkpoint.MANIFEST).is_file():
            self.found += 1
            return checkpoint.load(folder, backbone=model.classifier)
        self.made += 1
        return fit(
            model,
            photos,
            folder,
            settings,
            cache_dir=self.home,
            workers=self.workers,
            resume=True,
            reporter=self.report,
        )


def branch_key(model: DualBranch, photos: Dataset, settings: TrainingSettings) -> str:
    """Return the digest of the classifier and its head, the photos with their labels, and every setting."""
    labels = hashlib.blake2b(photos.labels.tobytes(), digest_size=16)
    if settings.multi_label:
        sets = with_all_labels(photos).label_sets
        assert sets is not None
        labels.update(sets.flat.tobytes() + sets.starts.tobytes())
    content = {
        "format": BRANCH_FORMAT,
        "backbone": checkpoint.fingerprint(model.classifier),
        "softmax": checkpoint.fingerprint(model.softmax_head),
        "layer": [model.anatomy.layer, model.anatomy.layout, model.anatomy.post],
        "preprocessing": {**model.preprocessing.to_json(), "origin": ""},
        "names": [model.class_names, photos.class_names],
        "photos": [photos.digest(), labels.hexdigest(), photos.classes],
        "settings": settings.to_json(),
        "device": model.device.type,
        "dtype": str(model.dtype),
    }
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()


def stand_in(model: DualBranch, photos: Dataset) -> DualBranch:
    """Return a model of the classes of ``photos``, whose head knows nothing: to match labels before one is fitted."""
    with torch.random.fork_rng(devices=[]):
        head = Head.pooled_linear(nn.Linear(model.anatomy.channels, photos.classes))
    return DualBranch(
        model.classifier,
        model.anatomy,
        model.preprocessing,
        class_names=photos.class_names,
        source=model.source,
        fitted_head=head.to(model.device).requires_grad_(False),
        adapter=model.adapter,
    )
