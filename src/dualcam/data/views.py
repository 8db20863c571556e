"""Augmented views of a photo, each fixed by its seed, so that any process makes the same ones."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dualcam.data.photos import open_photo
from dualcam.data.preprocessing import Preprocessing, place
from dualcam.datasets import Dataset
from dualcam.errors import PhotoError

CROP_SHARE = 7 / 8
MAX_ASPECT = 4 / 3


@dataclass(frozen=True)
class ViewRecipe:
    """How views are drawn: ``augment`` "none", "crop" or "resized-crop", how many, least area, seed."""

    augment: str
    count: int
    min_scale: float
    seed: int


def draw_box(generator: np.random.Generator, recipe: ViewRecipe) -> tuple[float, float, float, float]:
    """Return a crop as shares (x0, y0, x1, y1) of the photo."""
    if recipe.augment == "crop":
        width = height = CROP_SHARE
    else:
        area = generator.uniform(recipe.min_scale, 1)
        aspect = math.exp(generator.uniform(-math.log(MAX_ASPECT), math.log(MAX_ASPECT)))
        width, height = min(1.0, math.sqrt(area * aspect)), min(1.0, math.sqrt(area / aspect))
    left, top = generator.uniform(0, 1 - width), generator.uniform(0, 1 - height)
    return left, top, left + width, top + height


def view(image: Image.Image, preprocessing: Preprocessing, recipe: ViewRecipe, seeds: tuple[int, ...]) -> Tensor:
    """Return a view [3, H, W] of an RGB photo. The last of ``seeds`` is its number: view 0 is the whole photo."""
    if recipe.augment == "none" or seeds[-1] == 0:
        return preprocessing.normalize(place(image, preprocessing)[0])
    generator = np.random.default_rng(seeds)
    x0, y0, x1, y1 = draw_box(generator, recipe)
    box = (x0 * image.width, y0 * image.height, x1 * image.width, y1 * image.height)
    tensor = preprocessing.normalize(place(image, preprocessing, box=box)[0])
    return tensor.flip(2) if generator.random() < 0.5 else tensor


def open_or_tell(dataset: Dataset, position: int) -> Image.Image | str:
    """Return the photo at ``position`` as RGB, or the reason why it can not be read."""
    try:
        return open_photo(dataset.root / dataset.paths[position])
    except PhotoError as error:
        return str(error)


class PhotoViews(torch.utils.data.Dataset[tuple[int, Tensor | str]]):
    """All views of each photo, [V, 3, H, W], or the reason why the photo can not be read.

    ``first`` is the place of the first photo in the whole of which this is a part: views are those of the whole.
    """

    def __init__(self, dataset: Dataset, preprocessing: Preprocessing, recipe: ViewRecipe, first: int = 0) -> None:
        self.dataset, self.preprocessing, self.recipe, self.first = dataset, preprocessing, recipe, first

    def part(self, places: range) -> "PhotoViews":
        """Return the photos at ``places``, with the views that they have here."""
        return PhotoViews(self.dataset.subset(list(places)), self.preprocessing, self.recipe, self.first + places.start)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, position: int) -> tuple[int, Tensor | str]:
        image = open_or_tell(self.dataset, position)
        if isinstance(image, str):
            return position, image
        seed = self.recipe.seed
        views = [
            view(image, self.preprocessing, self.recipe, (seed, self.first + position, number))
            for number in range(self.recipe.count)
        ]
        return position, torch.stack(views)


class SingleViews(torch.utils.data.Dataset[tuple[int, Tensor | str]]):
    """One view of a photo at a time, drawn anew each epoch, in a given order of rows (photo * V + view).

    View 0 is the whole photo, unless it is the only one: then each epoch draws another crop, and none is kept.
    """

    def __init__(self, photos: PhotoViews, order: list[int], epoch: int) -> None:
        self.photos, self.order, self.epoch = photos, order, epoch

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, position: int) -> tuple[int, Tensor | str]:
        row = self.order[position]
        photo, number = divmod(row, self.photos.recipe.count)
        recipe = self.photos.recipe
        image = open_or_tell(self.photos.dataset, photo)
        if isinstance(image, str):
            return row, image
        number = 1 if recipe.count == 1 else number
        return row, view(image, self.photos.preprocessing, recipe, (recipe.seed, self.epoch, photo, number))
