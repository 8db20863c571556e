"""Maps of one photo from several looks at it: other input sizes, mirrored."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dualcam import methods
from dualcam.data.photos import MAX_MEGAPIXELS, open_photo, photo_size
from dualcam.data.prepared import Prepared
from dualcam.data.preprocessing import Placement, Preprocessing, place
from dualcam.data.stream import Broken
from dualcam.errors import ChoiceError, PhotoError
from dualcam.evaluation.cells import BRANCHES, MapKind
from dualcam.evidence import gather_evidence, with_probes
from dualcam.explainer import Forward, run_model
from dualcam.guards import evaluating
from dualcam.heatmap import combine, weight_parts
from dualcam.model import DualBranch
from dualcam.refine import Guide, make_guide
from dualcam.types import Fit

GRID = 224
"""Side of the square on which maps are compared with truth, as the reference evaluation has it."""
Explained = Literal["true", "predicted"]
"""Whose evidence a map shows: the label's, or the softmax branch's first choice."""


@dataclass(frozen=True)
class View:
    """One look: the input size (height, width) in pixels, mirrored or not."""

    size: tuple[int, int]
    flip: bool = False


def make_views(preprocessing: Preprocessing, scales: Sequence[float] = (), *, flip: bool = False) -> tuple[View, ...]:
    """Return the looks: the input size and its multiples by ``scales``, each mirrored as well if ``flip``.

    The first is the plain one, by which photos are classified. Sides are rounded to multiples of 32. Raises
    `ChoiceError` for a scale outside of [0.25, 4].
    """
    for scale in scales:
        if not 0.25 <= scale <= 4:
            raise ChoiceError(f"scales must lie in [0.25, 4]; got {scale:g}")
    height, width = preprocessing.size
    sizes = [(height, width)]
    sizes += [(max(32, round(height * each / 32) * 32), max(32, round(width * each / 32) * 32)) for each in scales]
    unique = dict.fromkeys(sizes)
    return tuple(View(size, mirrored) for size in unique for mirrored in ((False, True) if flip else (False,)))


@dataclass(frozen=True)
class Looks:
    """A photo ready for the model in every view's size (mirrored views share the tensor), and to guide its maps."""

    photo: str
    source: tuple[int, int]
    by_size: dict[tuple[int, int], Prepared]
    guide: Guide | None = None


@dataclass(frozen=True)
class LookLoader:
    """Loads a photo, decoded once, for all views."""

    preprocessing: Preprocessing
    views: tuple[View, ...]
    fit: Fit = "squash"
    max_megapixels: float = MAX_MEGAPIXELS
    guided: bool = False

    def __call__(self, photo: str) -> Looks | Broken:
        """Return the photo, or why it can not be read."""
        try:
            image = open_photo(photo, max_megapixels=self.max_megapixels)
        except PhotoError as error:
            return Broken(photo, str(error), photo_size(photo))
        prepared = {}
        for size in dict.fromkeys(view.size for view in self.views):
            preprocessing = replace(self.preprocessing, size=size)
            placed, placement = place(image, preprocessing, self.fit)
            prepared[size] = Prepared(preprocessing.normalize(placed), placement, photo, image.copy)
        guide = None
        if self.guided:
            small = image.resize((GRID, GRID), Image.Resampling.BILINEAR)
            guide = make_guide(np.asarray(small, dtype=np.float32) / np.float32(255))
        return Looks(photo, image.size, prepared, guide)


@dataclass(frozen=True)
class ViewMaps:
    """Raw maps [B, kinds, h, w] of one view, and where its inputs lie in the sources."""

    maps: Tensor
    placements: tuple[Placement, ...]


def map_batch(
    model: DualBranch,
    batch: Sequence[Looks],
    views: Sequence[View],
    kinds: Sequence[MapKind],
    labels: Tensor,
    explained: Sequence[Explained] = ("true",),
) -> tuple[dict[Explained, list[ViewMaps]], Forward]:
    """Return the raw maps by explained class and view, and the first view's forward.

    ``labels`` [B] are the true classes. One backbone forward a view serves all ``kinds`` and classes; a mirrored view's
    maps are turned back.
    """
    found: dict[Explained, list[ViewMaps]] = {which: [] for which in explained}
    plain: Forward | None = None
    for view in views:
        prepared = [looks.by_size[view.size] for looks in batch]
        if view.flip:
            prepared = [replace(item, tensor=item.tensor.flip(-1)) for item in prepared]
        forward = run_model(model, prepared)
        plain = forward if plain is None else plain
        classes = [labels.to(plain.logits.device) if which == "true" else plain.logits.argmax(1) for which in explained]
        placements = tuple(item.placement for item in prepared)
        for which, maps in zip(explained, maps_of_classes(model, forward, kinds, classes), strict=True):
            found[which].append(ViewMaps(maps.flip(-1) if view.flip else maps, placements))
    assert plain is not None
    return found, plain


def maps_of_classes(
    model: DualBranch, forward: Forward, kinds: Sequence[MapKind], choices: Sequence[Tensor]
) -> list[Tensor]:
    """Return `raw_maps` of each choice of classes [B]; where a later one agrees with the first, nothing is computed."""
    first, *others = choices
    made = [raw_maps(model, forward, kinds, first)]
    for other in others:
        differs: list[int] = (other != first).nonzero().squeeze(1).tolist()
        maps = made[0]
        if differs:
            maps = maps.clone()
            maps[differs] = raw_maps(model, forward.part(differs), kinds, other[differs])
        made.append(maps)
    return made


def raw_maps(model: DualBranch, forward: Forward, kinds: Sequence[MapKind], labels: Tensor) -> Tensor:
    """Return the maps [B, kinds, h, w] of ``labels`` [B]; one evidence a branch serves its methods and signs."""
    made: dict[MapKind, Tensor] = {}
    index = labels.unsqueeze(1)
    for scored in dict.fromkeys(kind.branch for kind in kinds):
        branch, score = BRANCHES[scored]
        head = model.head(branch)
        with evaluating(head):
            evidence = gather_evidence(head, forward.tapped, index, score)
        with torch.no_grad():
            for name in dict.fromkeys(kind.method for kind in kinds if kind.branch == scored):
                method, tuning = methods.spelled(name)
                probed = with_probes(evidence, model, forward, index, method, branch, score, tuning)
                parts = weight_parts(method, probed)
                for kind in kinds:
                    if (kind.branch, kind.method) == (scored, name):
                        made[kind] = combine(
                            parts, evidence.activations, kind.sign, clamp_weights=model.anatomy.nonnegative
                        ).squeeze(1)
    return torch.stack([made[kind] for kind in kinds], 1).float().cpu()
