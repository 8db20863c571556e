"""Photos and tensors to what the model takes, with the way back to their pixels."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from os import PathLike, fspath
from typing import TypeAlias

from PIL import Image
from torch import Tensor

from dualcam.data.photos import check_size, open_photo, to_rgb
from dualcam.data.preprocessing import Placement, Preprocessing, place
from dualcam.errors import ChoiceError
from dualcam.types import Fit

Photo: TypeAlias = "str | PathLike[str] | Image.Image"


@dataclass(frozen=True)
class Prepared:
    """One image ready for the model: tensor [3, H, W], where its pixels came from, and how to see it."""

    tensor: Tensor
    placement: Placement
    source: str | None
    picture: Callable[[], Image.Image]


def prepare_tensor(preprocessing: Preprocessing, images: Tensor) -> list[Prepared]:
    """Return the images of a preprocessed tensor [B, 3, H, W]; raises `ChoiceError` for another shape."""
    if images.dim() != 4 or not images.is_floating_point():
        raise ChoiceError(
            f"a tensor of images must be floating point [B, 3, H, W], preprocessed as the model takes it; "
            f"got {images.dtype} {tuple(images.shape)}"
        )
    placement = Placement.identity(images.shape[3], images.shape[2])
    return [Prepared(image, placement, None, partial(preprocessing.denormalize, image)) for image in images]


def prepare_photo(preprocessing: Preprocessing, photo: Photo, fit: Fit = "squash") -> Prepared:
    """Open, turn upright and resize a photo; raises `PhotoError`."""
    if isinstance(photo, Image.Image):
        check_size(photo, "the picture", float("inf"))
        image, source = to_rgb(photo), None
        picture: Callable[[], Image.Image] = partial(to_rgb, photo)
    elif isinstance(photo, str | PathLike):
        source = fspath(photo)
        image, picture = open_photo(photo), partial(open_photo, photo)
    else:
        raise ChoiceError(f"images must be tensors, PIL images or paths; got {type(photo).__name__}")
    placed, placement = place(image, preprocessing, fit)
    return Prepared(preprocessing.normalize(placed), placement, source, picture)
