"""Perturbed photos through the model: in full batches across photos, cells and metrics, each distinct one once."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dualcam.data.preprocessing import Preprocessing
from dualcam.evaluation.cells import MapKind
from dualcam.evaluation.views import raw_maps
from dualcam.explainer import Forward, run_tensor
from dualcam.guards import evaluating
from dualcam.metrics.fidelity_settings import Space
from dualcam.model import DualBranch

ScoredBy = Literal["softmax", "sigmoid"]


@dataclass
class Answer:
    """What the model says of one photo: the explained class's probability, and the raw maps [h, w] asked for."""

    probability: float = float("nan")
    maps: dict[MapKind, NDArray[np.float32]] = field(default_factory=dict)
    done: bool = False


@dataclass(frozen=True)
class Question:
    """The class a photo is asked about, and the maps wanted of it."""

    label: int
    kinds: tuple[MapKind, ...]
    answer: Answer


class Asker:
    """Collects photos until a batch is full; `flush` answers the rest. ``forwards`` counts photos.

    Photos are RGB in [0, 1] where ``space`` is "pixels", else as the model takes them, and of one size. Each is written
    to its place in the batch as it comes, while it is in the processor's cache; all batches use the same memory.
    """

    def __init__(
        self, model: DualBranch, *, space: Space = "pixels", scored_by: ScoredBy = "softmax", batch_size: int = 16
    ) -> None:
        self.model, self.space, self.scored_by, self.batch_size = model, space, scored_by, batch_size
        self.forwards = 0
        self._waiting: list[Question] = []
        self._images = torch.empty(0)

    def ask(self, photo: Tensor, question: Question) -> None:
        """Take a question about ``photo`` [3, H, W]; a full batch goes through the model at once."""
        if not len(self._images):
            self._images = photo.new_empty((self.batch_size, *photo.shape))
        image = self._images[len(self._waiting)].copy_(photo)
        if self.space == "pixels":
            normalized_(image, self.model.preprocessing)
        self._waiting.append(question)
        if len(self._waiting) >= self.batch_size:
            self.flush()

    def flush(self) -> None:
        """Answer all that waits."""
        if not self._waiting:
            return
        batch, self._waiting = self._waiting, []
        self.forwards += len(batch)
        labels = torch.tensor([question.label for question in batch], device=self.model.device)
        forward = run_tensor(self.model, self._images[: len(batch)])
        scores = probabilities(self.model, forward, labels, self.scored_by)
        self._explain(batch, forward, labels)
        for question, score in zip(batch, scores.tolist(), strict=True):
            question.answer.probability = score
            question.answer.done = True

    def _explain(self, batch: Sequence[Question], forward: Forward, labels: Tensor) -> None:
        """Draw the maps asked for; photos that want the same kinds share their evidence."""
        groups: dict[tuple[MapKind, ...], list[int]] = {}
        for place, question in enumerate(batch):
            if question.kinds:
                groups.setdefault(question.kinds, []).append(place)
        for kinds, places in groups.items():
            maps = raw_maps(self.model, forward.part(places), kinds, labels[places]).numpy()
            for place, drawn in zip(places, maps, strict=True):
                batch[place].answer.maps.update(zip(kinds, drawn, strict=True))


class Interview:
    """The questions about one photo: a modified photo that came before, in the same bits, is not asked about again.

    ``photo`` [3, H, W] is the plain one in the asker's space, of which the ``probability`` of ``label`` is known.
    """

    def __init__(self, asker: Asker, photo: Tensor, label: int, probability: float) -> None:
        self.asker, self.photo, self.label, self.probability = asker, photo, label, probability
        self.answers: list[Answer] = []
        self._known = {digest(photo): (Answer(probability, done=True), frozenset[MapKind]())}

    @property
    def done(self) -> bool:
        """Whether all answers are there."""
        return all(answer.done for answer in self.answers)

    def ask(self, photo: Tensor, kinds: Sequence[MapKind] = ()) -> Answer:
        """Return the answer of a modified photo [3, H, W], to be filled in later.

        Where the same photo came before without maps of ``kinds``, it goes through the model again.
        """
        key = digest(photo)
        earlier = self._known.get(key)
        if earlier is not None and earlier[1].issuperset(kinds):
            return earlier[0]
        answer = Answer()
        self._known[key] = (answer, frozenset(kinds))
        self.answers.append(answer)
        self.asker.ask(photo, Question(self.label, tuple(kinds), answer))
        return answer


def digest(tensor: Tensor) -> bytes:
    """Return what tells tensors of one shape and type apart by their bits."""
    bits: NDArray[np.uint8] = tensor.contiguous().numpy().view(np.uint8)
    return hashlib.sha256(bits.data).digest()


def in_space(tensor: Tensor, preprocessing: Preprocessing, space: Space) -> Tensor:
    """Return a normalized photo [3, H, W] in ``space``, in float32 on the CPU."""
    photo = tensor.detach().float().cpu()
    if space == "normalized":
        return photo
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (preprocessing.mean, preprocessing.std))
    return (photo * std).add_(mean).clamp_(0, 1)


def normalized_(photo: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Apply mean and deviation to an RGB ``photo`` [3, H, W] in [0, 1], in place."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (preprocessing.mean, preprocessing.std))
    return photo.sub_(mean).div_(std)


def probabilities(model: DualBranch, forward: Forward, labels: Tensor, scored_by: ScoredBy) -> Tensor:
    """Return the probability [B] of ``labels`` [B] by a branch."""
    index = labels.unsqueeze(1)
    if scored_by == "softmax":
        return forward.logits.float().softmax(1).gather(1, index).squeeze(1)
    with evaluating(model.sigmoid_head), torch.no_grad():
        return model.sigmoid_head.logits_of(forward.activations, index).float().sigmoid().squeeze(1)
