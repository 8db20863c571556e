"""Perturbed photos through the model: in full batches across photos, cells and metrics, each distinct one once."""

import hashlib
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dualcam.data.preprocessing import Preprocessing
from dualcam.evaluation.cells import MapKind
from dualcam.evaluation.distinct import Distinct
from dualcam.evaluation.views import raw_maps
from dualcam.explainer import Forward, run_tensor
from dualcam.guards import evaluating
from dualcam.metrics.fidelity_settings import Space
from dualcam.model import DualBranch

ScoredBy = Literal["softmax", "sigmoid"]


@dataclass(eq=False)
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


@dataclass
class Known:
    """A modified photo that is asked about, and with maps of which kinds; None before it is."""

    answer: Answer = field(default_factory=Answer)
    kinds: frozenset[MapKind] | None = None

    def serves(self, kinds: Collection[MapKind]) -> bool:
        """Whether maps of ``kinds`` are asked for as well."""
        return self.kinds is not None and self.kinds.issuperset(kinds)


class Interview:
    """The questions about one photo: a modified photo that came before, in the same bits, is not asked about again.

    ``photo`` [3, H, W] is the plain one in the asker's space, of which the ``probability`` of ``label`` is known.
    """

    def __init__(self, asker: Asker, photo: Tensor, label: int, probability: float) -> None:
        self.asker, self.photo, self.label, self.probability = asker, photo, label, probability
        self.answers: list[Answer] = []
        self._photos = Distinct[Known]()
        self._recipes: dict[Hashable, Known] = {}
        self._photos.find(photo, lambda: Known(Answer(probability, done=True), frozenset()))

    @property
    def done(self) -> bool:
        """Whether all answers are there."""
        return all(answer.done for answer in self.answers)

    def ask(self, recipe: Hashable, make: Callable[[], Tensor], kinds: Collection[MapKind] = ()) -> Answer:
        """Return the answer of a modified photo, to be filled in later; ``make`` makes the photo [3, H, W].

        Photos of equal ``recipe`` are equal, and not made again. Where a photo came before without maps of ``kinds``,
        it goes through the model again.
        """
        known = self._recipes.get(recipe)
        if known is None or not known.serves(kinds):
            photo = make()
            known = self._recipes[recipe] = self._photos.find(photo, Known, make)
            if not known.serves(kinds):
                known.answer, known.kinds = Answer(), frozenset(kinds)
                self.answers.append(known.answer)
                self.asker.ask(photo, Question(self.label, tuple(kinds), known.answer))
        return known.answer

    def finish(self) -> None:
        """Forget the photos: no more questions come."""
        self._photos, self._recipes = Distinct(), {}


def digest(tensor: Tensor) -> bytes:
    """Return what tells tensors of one shape and type apart by their bits."""
    bits: NDArray[np.uint8] = tensor.contiguous().numpy().ravel().view(np.uint8)
    return hashlib.sha256((np.packbits(bits) if tensor.dtype == torch.bool else bits).data).digest()


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
