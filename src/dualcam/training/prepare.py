"""What a run needs before its first epoch: features, a softmax head of the right classes, targets."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dualcam.data.label_sets import LabelSets
from dualcam.data.views import PhotoViews, ViewRecipe
from dualcam.datasets import Dataset
from dualcam.errors import DataError, ModelError
from dualcam.heads import Head
from dualcam.losses import positive_weights
from dualcam.model import DualBranch
from dualcam.training.cache import FeatureCache, build_cache
from dualcam.training.inputs import Inputs
from dualcam.training.labels import match_classes
from dualcam.training.objective import Features, Task
from dualcam.training.passes import Passes
from dualcam.training.probe import fit_linear_head
from dualcam.training.processes import ALONE, Processes
from dualcam.training.report import Reporter
from dualcam.training.settings import TrainingSettings
from dualcam.training.shards import build_shared_cache
from dualcam.training.stream import FeatureStream

PLAIN = ViewRecipe("none", 1, 1.0, 0)


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """A model, its photos, the settings, and where features are kept (``cached``) or that they are not.

    ``processes`` share the work of the frozen network: each computes the features of its part. Cached, each then trains
    the same small head by itself; without a cache they share each batch.
    """

    model: DualBranch
    inputs: Inputs
    settings: TrainingSettings
    home: Path
    report: Reporter
    workers: int
    cached: bool
    processes: Processes = ALONE

    def with_head(self) -> DualBranch:
        """Return a new `DualBranch` on the same classifier, with a head fitted for the data's classes if asked for.

        Raises `DataError` where the classes do not match and no head is to be fitted, `ModelError` without a cache.
        """
        model, dataset = self.model, self.inputs.train
        head, names = model.fitted_head, model.class_names
        if self.settings.fit_head is None:
            match_classes(dataset, model)
        else:
            head, names = self._fit_head(dataset), dataset.class_names
        return DualBranch(
            model.classifier,
            model.anatomy,
            model.preprocessing,
            class_names=names,
            source=model.source,
            fitted_head=head,
            outputs=model.outputs if head is model.fitted_head else "softmax",
            adapter=model.adapter,
        )

    def task(self, model: DualBranch) -> Task:
        """Return features and targets of the training photos; raises `DataError` if none of them can be read.

        Where few of the classes have photos, and labels are hard, the loss is the mean over those, and so are weights.
        """
        settings = self.settings
        features, labels = self._photos(model, self.inputs.train, training=True)
        readable = np.flatnonzero(features.usable)
        usable = torch.from_numpy(labels.subset(readable).flat) if isinstance(labels, LabelSets) else labels[readable]
        present = torch.bincount(usable, minlength=model.classes) > 0
        partial = settings.labels == "hard" and not bool(present.all())
        counted = int(present.sum()) if partial else model.classes
        if partial:
            self.report.say(f"{counted} of {model.classes} classes have photos; the others keep their start")
        weight = positive_weights(usable, model.classes, settings.balance, len(readable), counted=counted)
        return Task(
            features=features,
            labels=labels,
            softmax_head=model.softmax_head,
            label_kind=settings.labels,
            positive_weight=weight,
            classes=present if partial else None,
            temperature=settings.temperature,
            outputs=model.outputs,
        )

    def validation(self, model: DualBranch, task: Task) -> Task | None:
        """Return the validation photos under the loss of ``task``, its weights and classes; None without such photos.

        Raises `DataError` if none of them can be read.
        """
        if self.inputs.val is None:
            return None
        features, labels = self._photos(model, self.inputs.val, training=False)
        return replace(task, features=features, labels=labels)

    def _photos(self, model: DualBranch, dataset: Dataset, *, training: bool) -> tuple[Features, Tensor | LabelSets]:
        """Return features and labels of ``dataset``."""
        if self.cached:
            features: Features = self._cache(model.softmax_head, dataset, training=training)
        else:
            photos = PhotoViews(dataset, model.preprocessing, self._recipe(training=training))
            passes = Passes(model, model.softmax_head, self.settings, training=training)
            features = FeatureStream(passes, photos, self.workers, self.processes)
        labels = self._labels(dataset, None if self.settings.fit_head else match_classes(dataset, model))
        if not features.usable.any():
            raise DataError(f"no photo of {dataset.root} (split {dataset.split}) can be read")
        return features, labels

    def _fit_head(self, dataset: Dataset) -> Head:
        if not self.cached:
            raise ModelError("fitting a head needs the feature cache; leave out --no-cache (cache=False)")
        blank = Head.pooled_linear(nn.Linear(self.model.anatomy.channels, dataset.classes))
        features = self._cache(blank, dataset, training=True)
        labels = self._labels(dataset, None)
        self.report.say(f"fitting a linear head of {dataset.classes} classes")
        linear = fit_linear_head(features, labels, dataset.classes, weight_decay=self.settings.head_decay)
        return Head.pooled_linear(linear).to(self.model.device).eval().requires_grad_(False)

    def _labels(self, dataset: Dataset, index: NDArray[np.int64] | None) -> Tensor | LabelSets:
        """Return the photos' labels, as the model's class indices where ``index`` [classes of the data] gives them."""
        index = np.arange(dataset.classes) if index is None else index
        if not self.settings.multi_label:
            return torch.from_numpy(index[dataset.labels])
        assert dataset.label_sets is not None, "find_inputs gives all labels where they are asked for"
        return replace(dataset.label_sets, flat=index[dataset.label_sets.flat])

    def _cache(self, head: Head, dataset: Dataset, *, training: bool) -> FeatureCache:
        photos = PhotoViews(dataset, self.model.preprocessing, self._recipe(training=training))
        what = "training" if training else "validation"
        with self.report.task(f"features of {what} photos", len(photos)) as advance:
            given: dict[str, Any] = {"workers": self.workers, "advance": advance}
            if self.processes.shared:
                features = build_shared_cache(self.model, head, photos, self.home, self.processes, **given)
            else:
                features = build_cache(self.model, head, photos, self.home, **given)
        self.report.cache(features, what)
        return features

    def _recipe(self, *, training: bool) -> ViewRecipe:
        settings = self.settings
        if not training:
            return PLAIN
        return ViewRecipe(settings.augment, settings.view_count, settings.min_scale, settings.seed)
