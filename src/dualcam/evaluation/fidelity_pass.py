"""Fidelity of photos as they come: questions about several photos share the model's batches."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dualcam.errors import ChoiceError, PhotoError
from dualcam.evaluation.asking import Asker, Interview, in_space, probabilities
from dualcam.evaluation.fidelity import Fidelity, plan_metrics, reads_scores_only
from dualcam.evaluation.input_maps import resize_views, trivial_heats, truth_on_input
from dualcam.evaluation.photo_fidelity import PhotoFidelity, Values
from dualcam.evaluation.shown import Shown
from dualcam.evaluation.truth import find_target
from dualcam.evaluation.views import Explained, Looks, ViewMaps, raw_maps
from dualcam.explainer import Forward
from dualcam.heads import Head
from dualcam.metrics import fidelity
from dualcam.model import DualBranch
from dualcam.refine import make_guide

if TYPE_CHECKING:
    from dualcam.evaluation.run import Evaluation


def check_fidelity(work: "Evaluation") -> None:
    """Raise `ChoiceError` for what can not be measured together."""
    asked = work.fidelity
    if asked is None:
        return
    if asked.explain == "true" and (work.photos.labels[work.photos.reported] < 0).any():
        raise ChoiceError("explain='true' needs photos whose classes are the model's; explain the predicted one")
    if asked.compares_maps and (len(work.views) > 1 or work.guided):
        names = [name for name in asked.metrics if not reads_scores_only(fidelity.get(name), asked.settings)]
        raise ChoiceError(
            f"{', '.join(names)} compare maps of single looks at modified photos; leave --flip, --scales and --refine "
            "out, or these metrics"
        )


class FidelityPass:
    """Measures the photos of an evaluation's plan, each with the metrics it is drawn for.

    A photo's maps are drawn from all views and refined as the evaluation says; modified photos are plain views.
    """

    def __init__(self, work: "Evaluation", asked: Fidelity) -> None:
        self.work, self.asked = work, asked
        self.plan = plan_metrics(asked, work.photos)
        self._asker = Asker(
            work.model, space=asked.settings.space, scored_by=asked.scored_by, batch_size=work.batch_size
        )
        self._changed = _changed_models(work, asked)
        self._pending: deque[tuple[int, PhotoFidelity]] = deque()

    @property
    def forwards(self) -> int:
        """How many modified photos went through the model."""
        return self._asker.forwards

    def measure(
        self, batch: Sequence[tuple[int, Looks]], found: Mapping[Explained, Sequence[ViewMaps]], forward: Forward
    ) -> Iterator[tuple[int, Values]]:
        """Ask about those of a batch of (position, photo) that are planned; yield what is answered, in order."""
        chosen = forward.logits.argmax(1)
        if self.asked.explain == "true":
            chosen = torch.from_numpy(self.work.photos.labels[[position for position, _ in batch]]).to(chosen.device)
        scores = probabilities(self.work.model, forward, chosen, self.asked.scored_by).tolist()
        for place, (position, looks) in enumerate(batch):
            if position not in self.plan:
                continue
            prepared = looks.by_size[self.work.views[0].size]
            photo = in_space(prepared.tensor, self.work.model.preprocessing, self.asked.settings.space)
            begun = PhotoFidelity(
                self.asked,
                self.plan[position],
                Interview(self._asker, photo, int(chosen[place]), scores[place]),
                self.work.kinds,
                self._maps(found[self.asked.explain], place, prepared.tensor),
                trivial_heats((photo.shape[1], photo.shape[2])),
                self._truth(position, looks, int(chosen[place])),
                self._by_heads(self.plan[position], forward.part([place]), chosen[place : place + 1]),
            )
            self._pending.append((position, begun))
            yield from self._answered()

    def finish(self) -> Iterator[tuple[int, Values]]:
        """Answer all that waits, and yield it."""
        self._asker.flush()
        yield from self._answered()

    def _answered(self) -> Iterator[tuple[int, Values]]:
        while self._pending and self._pending[0][1].done:
            position, begun = self._pending.popleft()
            yield position, begun.values()

    def _maps(self, views: Sequence[ViewMaps], place: int, tensor: Tensor) -> Shown:
        protocol, guide = self.work.protocol, None
        if self.work.guided:
            pixels = in_space(tensor, self.work.model.preprocessing, "pixels").permute(1, 2, 0)
            guide = make_guide(np.ascontiguousarray(pixels.numpy()))
        values = resize_views(views, place, (tensor.shape[1], tensor.shape[2]), guide)
        return Shown(values, protocol.normalizations, protocol.percentile)

    def _truth(self, position: int, looks: Looks, label: int) -> NDArray[np.uint8] | None:
        """Return the truth on the input, where a metric wants it and it is about the explained class."""
        wanted = any(fidelity.get(name).needs_truth for name in self.plan[position])
        if not wanted or not self.work.photos.has_truth or label != self.work.photos.labels[position]:
            return None
        try:
            target = find_target(self.work.photos, position, looks.source, self.work.protocol.mode)
        except PhotoError:  # whoever judges localization says so
            return None
        return truth_on_input(target.boxes, target.mask, looks.by_size[self.work.views[0].size].placement)

    def _by_heads(self, names: Sequence[str], forward: Forward, label: Tensor) -> dict[str, NDArray[np.float32]]:
        return {
            name: torch.cat([raw_maps(model, forward, self.work.kinds, label) for model in self._changed[name]]).numpy()
            for name in names
            if name in self._changed
        }


def _changed_models(work: "Evaluation", asked: Fidelity) -> dict[str, list[DualBranch]]:
    """Return, for each metric that changes heads, the model with the changed copies of both heads, draw by draw."""
    found = {}
    for name in asked.metrics:
        change = fidelity.get(name).heads
        if change is not None:
            heads = [change(work.model.head(branch), asked.settings) for branch in ("softmax", "sigmoid")]
            found[name] = [_with_heads(work.model, *draw) for draw in zip(*heads, strict=True)]
    return found


def _with_heads(model: DualBranch, softmax: Head, sigmoid: Head) -> DualBranch:
    """Return a model of the same backbone with other heads; ``model`` stays as it is."""
    other = copy(model)
    other._modules = dict(model._modules)  # which the copy would share
    other.fitted_head, other.sigmoid_head = softmax, sigmoid
    return other
