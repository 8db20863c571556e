"""Photos and tensors to what the model takes, with the way back to their pixels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from os import PathLike, fspath
from typing import Any, TypeAlias

import torch
from PIL import Image
from torch import Tensor

from dualcam.data.photos import check_size, open_photo, rgb_of
from dualcam.data.preprocessing import Placement, Preprocessing, place
from dualcam.errors import ChoiceError
from dualcam.types import Fit

Photo: TypeAlias = "str | PathLike[str] | Image.Image"
Images: TypeAlias = "Tensor | Photo | Sequence[Photo]"


@dataclass(frozen=True)
class Prepared:
    """One image ready for the model: tensor [3, H, W], where its pixels came from, and how to see it."""

    tensor: Tensor
    placement: Placement
    source: str | None
    picture: Callable[[], Image.Image]


def list_photos(images: Any) -> list[Photo]:
    """Return one photo or several, each as it was given; raises `ChoiceError` for what holds no photos."""
    if isinstance(images, str | PathLike | Image.Image):
        return [images]
    if isinstance(images, bytes) or hasattr(images, "read") or not hasattr(images, "__iter__"):
        raise _no_photo(images)
    return list(images)


def _no_photo(given: Any) -> ChoiceError:
    return ChoiceError(
        f"images must be a tensor [B, 3, H, W], or PIL images or paths, one or several; got {type(given).__name__}; "
        f"Image.fromarray makes a picture of an array, Image.open of an open file, torch.stack a batch of tensors"
    )


def prepare_tensor(preprocessing: Preprocessing, images: Tensor) -> list[Prepared]:
    """Return the images of a preprocessed tensor [B, 3, H, W]; raises `ChoiceError` for another shape."""
    if images.dim() != 4 or images.shape[1] != 3 or not images.is_floating_point() or images.layout != torch.strided:
        layout = "" if images.layout == torch.strided else f" {images.layout}"
        raise ChoiceError(
            f"a tensor of images must be floating point [B, 3, H, W], preprocessed as the model takes it; "
            f"got {images.dtype} {tuple(images.shape)}{layout}"
        )
    placement = Placement.identity(images.shape[3], images.shape[2])
    return [Prepared(image, placement, None, partial(preprocessing.denormalize, image)) for image in images]


def prepare_photo(preprocessing: Preprocessing, photo: Photo, fit: Fit = "squash") -> Prepared:
    """Open, turn upright and resize a photo; raises `PhotoError`."""
    if isinstance(photo, Image.Image):
        check_size(photo, "the picture", float("inf"))
        image, source = rgb_of(photo), None
        picture: Callable[[], Image.Image] = partial(rgb_of, photo)
    elif isinstance(photo, str | PathLike):
        source = fspath(photo)
        image, picture = open_photo(photo), partial(open_photo, photo)
    else:
        raise _no_photo(photo)
    placed, placement = place(image, preprocessing, fit)
    return Prepared(preprocessing.normalize(placed), placement, source, picture)
