"""What a run needs before its first epoch: features, a softmax head of the right classes, targets."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from dualcam.data.views import PhotoViews, ViewRecipe
from dualcam.datasets import Dataset
from dualcam.errors import DataError, ModelError
from dualcam.heads import Head
from dualcam.losses import positive_weights
from dualcam.model import DualBranch
from dualcam.training.cache import FeatureCache, build_cache
from dualcam.training.inputs import Inputs
from dualcam.training.labels import match_classes
from dualcam.training.objective import Task
from dualcam.training.probe import fit_linear_head
from dualcam.training.report import Reporter
from dualcam.training.settings import TrainingSettings
from dualcam.training.stream import FeatureStream

PLAIN = ViewRecipe("none", 1, 1.0, 0)


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """A model, its photos, the settings, and where features are kept (``cached``) or that they are not."""

    model: DualBranch
    inputs: Inputs
    settings: TrainingSettings
    home: Path
    report: Reporter
    workers: int
    cached: bool

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
        )

    def task(self, model: DualBranch, dataset: Dataset, *, training: bool) -> Task:
        """Return features and targets of ``dataset``; raises `DataError` if none of its photos can be read."""
        settings = self.settings
        if self.cached:
            features: FeatureCache | FeatureStream = self._cache(model.softmax_head, dataset, training=training)
        else:
            photos = PhotoViews(dataset, model.preprocessing, self._recipe(training=training))
            features = FeatureStream(model, model.softmax_head, photos, self.workers)
        labels = torch.from_numpy(dataset.labels)
        if settings.fit_head is None:
            labels = torch.from_numpy(match_classes(dataset, model))[labels]
        usable = labels[torch.from_numpy(features.usable)]
        if not len(usable):
            raise DataError(f"no photo of {dataset.root} (split {dataset.split}) can be read")
        present = torch.bincount(usable, minlength=model.classes) > 0
        partial = training and settings.labels == "hard" and not bool(present.all())
        if partial:
            self.report.say(f"{int(present.sum())} of {model.classes} classes have photos; the others keep their start")
        return Task(
            features=features,
            labels=labels,
            softmax_head=model.softmax_head,
            label_kind=settings.labels,
            positive_weight=positive_weights(usable, model.classes, settings.balance),
            classes=present if partial else None,
            temperature=settings.temperature,
        )

    def _fit_head(self, dataset: Dataset) -> Head:
        if not self.cached:
            raise ModelError("fitting a head needs the feature cache; leave out --no-cache (cache=False)")
        blank = Head.pooled_linear(nn.Linear(self.model.anatomy.channels, dataset.classes))
        features = self._cache(blank, dataset, training=True)
        labels = torch.from_numpy(dataset.labels)
        self.report.say(f"fitting a linear head of {dataset.classes} classes")
        linear = fit_linear_head(features, labels, dataset.classes, weight_decay=self.settings.head_decay)
        return Head.pooled_linear(linear).to(self.model.device).eval().requires_grad_(False)

    def _cache(self, head: Head, dataset: Dataset, *, training: bool) -> FeatureCache:
        photos = PhotoViews(dataset, self.model.preprocessing, self._recipe(training=training))
        what = "training" if training else "validation"
        with self.report.task(f"features of {what} photos", len(photos)) as advance:
            features = build_cache(self.model, head, photos, self.home, workers=self.workers, advance=advance)
        self.report.cache(features, what)
        return features

    def _recipe(self, *, training: bool) -> ViewRecipe:
        settings = self.settings
        if not training:
            return PLAIN
        return ViewRecipe(settings.augment, settings.view_count, settings.min_scale, settings.seed)
