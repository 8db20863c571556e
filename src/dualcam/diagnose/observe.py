"""One pass over the photos: activations and logits of each, and what views of it give the last layers to read."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.progress import Progress
from torch import Tensor

from dualcam.data.photos import MAX_MEGAPIXELS, open_photo, photo_size
from dualcam.data.prepared import Prepared
from dualcam.data.preprocessing import Placement, Preprocessing, place
from dualcam.data.stream import Broken, stream
from dualcam.data.views import ViewRecipe, view
from dualcam.diagnose.last_layer import LastLayer, exact, find_last_layer
from dualcam.errors import DataError, PhotoError
from dualcam.explainer import run_model
from dualcam.guards import evaluating
from dualcam.model import DualBranch

PICTURE_SIDE = 420


@dataclass(frozen=True)
class Look:
    """A photo ready for the model, and augmented views of it [V - 1, 3, H, W]."""

    prepared: Prepared
    views: Tensor


@dataclass(frozen=True)
class LookLoader:
    """Opens a photo once for all that is wanted of it; views are drawn by (seed, the photo's place)."""

    preprocessing: Preprocessing
    recipe: ViewRecipe
    places: dict[str, int]
    max_megapixels: float = MAX_MEGAPIXELS

    def __call__(self, photo: str) -> Look | Broken:
        """Return the photo's looks, or why it can not be read."""
        try:
            image = open_photo(photo, max_megapixels=self.max_megapixels)
        except PhotoError as error:
            return Broken(photo, str(error), photo_size(photo))
        placed, placement = place(image, self.preprocessing)
        ratio = PICTURE_SIDE / max(image.size)
        extent = (max(1, round(image.width * ratio)), max(1, round(image.height * ratio)))
        small = image.resize(extent, Image.Resampling.BICUBIC, reducing_gap=2.0)
        seeds = (self.recipe.seed, self.places[photo])
        views = [
            view(image, self.preprocessing, self.recipe, (*seeds, number)) for number in range(1, self.recipe.count)
        ]
        prepared = Prepared(self.preprocessing.normalize(placed), placement, photo, partial(_itself, small))
        return Look(prepared, torch.stack(views) if views else prepared.tensor.new_empty(0, *prepared.tensor.shape))


@dataclass(frozen=True)
class Observed:
    """What the model makes of N photos. Tensors lie on the CPU.

    ``positions`` [N] of these photos among those asked for. ``activations`` [N, D, h, w] in the model's precision;
    ``logits`` [N, C] of the softmax branch, ``views`` and ``softmax_views`` [N * V, E] what the last layer of the
    sigmoid and of the softmax branch reads, double precision. A branch without a linear last layer has neither.
    """

    positions: NDArray[np.int64]
    photos: tuple[str, ...]
    pictures: tuple[Image.Image, ...]
    placements: tuple[Placement, ...]
    activations: Tensor
    logits: Tensor
    softmax: LastLayer | None
    sigmoid: LastLayer | None
    softmax_views: Tensor
    views: Tensor
    broken: dict[str, str]


def observe(
    model: DualBranch,
    photos: Sequence[str],
    progress: Progress,
    *,
    views: int = 4,
    seed: int = 0,
    max_megapixels: float = MAX_MEGAPIXELS,
    batch_size: int = 4,
    workers: int = 2,
) -> Observed:
    """Run the model once over every view of every photo; raises `DataError` if no photo can be used."""
    recipe = ViewRecipe("crop" if views > 1 else "none", views, 1.0, seed)
    places = {photo: number for number, photo in enumerate(photos)}
    loader = LookLoader(model.preprocessing, recipe, places, max_megapixels)
    heads = (exact(model.softmax_head), exact(model.sigmoid_head))
    layers: tuple[LastLayer | None, ...] = (None, None)
    kept: list[tuple[Prepared, Tensor, Tensor]] = []
    read: tuple[list[Tensor], list[Tensor]] = ([], [])
    broken: dict[str, str] = {}
    task = progress.add_task("looking at photos", total=len(photos))
    for batch in stream(photos, loader, batch_size=batch_size, workers=workers):
        for item in batch:
            progress.advance(task)
            if isinstance(item, Broken):
                broken[item.photo] = item.error
                continue
            forward = run_model(model, [item.prepared])
            if not bool(torch.isfinite(forward.logits).all() and torch.isfinite(forward.activations).all()):
                broken[item.prepared.source or ""] = "the model's scores are not finite numbers"
                continue
            activations = forward.activations
            if len(item.views):
                with torch.no_grad(), evaluating(model):
                    more = model.activations(item.views.to(model.device, model.dtype))
                activations = torch.cat((activations, more))
            if not kept:
                first = activations.double().cpu() if heads[0].is_linear else activations
                layers = tuple(find_last_layer(head, first) for head in heads)
            for layer, found in zip(layers, read, strict=True):
                if layer is not None:
                    found.append(layer.inputs(activations))
            kept.append((item.prepared, activations[:1].cpu(), forward.logits.double().cpu()))
    if not kept:
        raise DataError(f"none of the {len(photos)} photos can be used; the first: {next(iter(broken.values()))}")
    return Observed(
        positions=np.array([places[item.source or ""] for item, _, _ in kept], dtype=np.int64),
        photos=tuple(item.source or "" for item, _, _ in kept),
        pictures=tuple(item.picture() for item, _, _ in kept),
        placements=tuple(item.placement for item, _, _ in kept),
        activations=torch.cat([part for _, part, _ in kept]),
        logits=torch.cat([part for _, _, part in kept]),
        softmax=layers[0],
        sigmoid=layers[1],
        softmax_views=torch.cat(read[0]) if read[0] else torch.empty(0, 0, dtype=torch.float64),
        views=torch.cat(read[1]) if read[1] else torch.empty(0, 0, dtype=torch.float64),
        broken=broken,
    )


def _itself(image: Image.Image) -> Image.Image:
    return image
