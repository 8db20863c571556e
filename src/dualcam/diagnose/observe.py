"""One pass over the photos: what is kept of each, its logits, and what views of it give the last layers to read."""

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
from dualcam.diagnose.forwards import Forwards, to_keep
from dualcam.diagnose.last_layer import LastLayer, exact, find_last_layer
from dualcam.errors import DataError, PhotoError
from dualcam.explainer import Forward, run_model
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

    ``positions`` [N] of these photos among those asked for. ``logits`` and ``sigmoid_logits`` [N, C] of the softmax and
    of the sigmoid branch; ``softmax_views`` and ``views`` [N * V, E] what the last layer of each reads of V views of a
    photo, the photo itself first; double precision. A branch without a linear last layer has no such layer and views.
    """

    positions: NDArray[np.int64]
    photos: tuple[str, ...]
    pictures: tuple[Image.Image, ...]
    placements: tuple[Placement, ...]
    forwards: Forwards
    logits: Tensor
    sigmoid_logits: Tensor
    softmax: LastLayer | None
    sigmoid: LastLayer | None
    softmax_views: Tensor
    views: Tensor
    broken: dict[str, str]

    @property
    def softmax_inputs(self) -> Tensor:
        """What the softmax branch's last layer reads of the photos themselves [N, E]."""
        return self.softmax_views[:: len(self.softmax_views) // len(self.photos) or 1]

    @property
    def inputs(self) -> Tensor:
        """What the sigmoid branch's last layer reads of the photos themselves [N, E]."""
        return self.views[:: len(self.views) // len(self.photos) or 1]


@dataclass(frozen=True)
class Seen:
    """What is kept of one photo: its forward, both branches' logits [1, C], and what the last layers read [V, E]."""

    item: Prepared
    kept: Tensor
    logits: Tensor
    sigmoid_logits: Tensor
    read: tuple[Tensor, ...]


Layers = tuple[LastLayer | None, LastLayer | None]


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
    layers: Layers | None = None
    seen: list[Seen] = []
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
            layers = layers or _find_layers(model, forward)
            seen.append(_see(model, item, forward, layers))
    if layers is None:
        raise DataError(f"none of the {len(photos)} photos can be used; the first: {next(iter(broken.values()))}")
    return _together(model, seen, places, layers, broken)


def _find_layers(model: DualBranch, forward: Forward) -> Layers:
    softmax, sigmoid = (
        find_last_layer(exact(head), forward.tapped) for head in (model.softmax_head, model.sigmoid_head)
    )
    return softmax, sigmoid


def _see(model: DualBranch, look: Look, forward: Forward, layers: Layers) -> Seen:
    taps = [forward.tapped]
    sigmoid = model.sigmoid_head
    with torch.no_grad(), evaluating(model):
        own = sigmoid(sigmoid.input_of(forward.tapped))
        if len(look.views):
            taps.append(model.tap_for(model.softmax_head, look.views.to(model.device, model.dtype)))
    nothing = torch.empty(0, 0, dtype=torch.float64)
    read = tuple(torch.cat([layer.inputs(tap) for tap in taps]) if layer else nothing for layer in layers)
    return Seen(look.prepared, to_keep(model, forward), forward.logits.cpu().double(), own.cpu().double(), read)


def _together(
    model: DualBranch, seen: Sequence[Seen], places: dict[str, int], layers: Layers, broken: dict[str, str]
) -> Observed:
    items = [each.item for each in seen]
    softmax, sigmoid = layers
    softmax_views, views = (torch.cat(each) for each in zip(*(one.read for one in seen), strict=True))
    return Observed(
        positions=np.array([places[item.source or ""] for item in items], dtype=np.int64),
        photos=tuple(item.source or "" for item in items),
        pictures=tuple(item.picture() for item in items),
        placements=tuple(item.placement for item in items),
        forwards=Forwards(model, torch.cat([each.kept for each in seen])),
        logits=torch.cat([each.logits for each in seen]),
        sigmoid_logits=torch.cat([each.sigmoid_logits for each in seen]),
        softmax=softmax,
        sigmoid=sigmoid,
        softmax_views=softmax_views,
        views=views,
        broken=broken,
    )


def _itself(image: Image.Image) -> Image.Image:
    return image
