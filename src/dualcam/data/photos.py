"""Open photos as people have them."""

import threading
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from dualcam.errors import PhotoError

T = TypeVar("T")
MAX_MEGAPIXELS = 64.0
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".jfif"})
_DAMAGE = (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError, MemoryError, OverflowError)
_OPENING = threading.Lock()


def open_photo(path: str | PathLike[str], *, max_megapixels: float = MAX_MEGAPIXELS) -> Image.Image:
    """Return the photo as RGB, turned upright by its EXIF orientation; of several frames the first.

    16-bit, grey, palette and CMYK pictures are converted, transparency is laid over white. Raises `PhotoError` for
    files that are missing, empty, unreadable, truncated, no picture, or larger than ``max_megapixels``.
    """
    return _open(path, lambda image: to_rgb(ImageOps.exif_transpose(image)), max_megapixels)


def open_mask(path: str | PathLike[str], *, max_megapixels: float = MAX_MEGAPIXELS) -> NDArray[np.uint8]:
    """Return a mask [H, W] of 0 and 1: 1 where the picture is not black. Raises `PhotoError` as `open_photo` does."""

    def marked(image: Image.Image) -> NDArray[np.uint8]:
        pixels = np.asarray(image.convert("RGB") if image.mode in {"P", "RGBA", "LA", "CMYK"} else image)
        mask: NDArray[np.uint8] = (pixels.reshape(*pixels.shape[:2], -1).max(2) > 0).astype(np.uint8)
        return mask

    return _open(path, marked, max_megapixels)


def _open(path: str | PathLike[str], convert: Callable[[Image.Image], T], max_megapixels: float) -> T:
    file = Path(path)
    try:
        if file.is_dir():
            raise PhotoError(f"{file} is a directory; expected a photo")
        if file.stat().st_size == 0:
            raise PhotoError(f"{file} is empty (0 bytes)")
        with file.open("rb") as stream:
            with _unlimited_header():
                image = Image.open(stream)
            check_size(image, str(file), max_megapixels)
            image.load()
            return convert(image)
    except FileNotFoundError as error:
        raise PhotoError(f"{file} does not exist") from error
    except PermissionError as error:
        raise PhotoError(f"no permission to read {file}") from error
    except UnidentifiedImageError as error:
        raise PhotoError(f"{file} is not a picture that can be read") from error
    except _DAMAGE as error:
        raise PhotoError(f"{file} is damaged: {error or type(error).__name__}") from error


def check_size(image: Image.Image, name: str, max_megapixels: float) -> None:
    """Raise `PhotoError` where the picture has more pixels than allowed (known from its header alone)."""
    if not image.width or not image.height:
        raise PhotoError(f"{name} has no pixels ({image.width} x {image.height})")
    megapixels = image.width * image.height / 1e6
    if megapixels > max_megapixels:
        raise PhotoError(
            f"{name} has {megapixels:.0f} megapixels ({image.width} x {image.height}); the limit is "
            f"{max_megapixels:g}; shrink the photo, raise the limit (--max-megapixels), or open it yourself and pass "
            f"the picture, which may be of any size"
        )


def photo_size(path: str | PathLike[str]) -> tuple[int, int] | None:
    """Return (width, height) of the upright photo as its header tells, or None where no header can be read."""
    try:
        with Path(path).open("rb") as stream, _unlimited_header():
            image = Image.open(stream)
            # The base class's reading: a PNG's own would decode the whole picture first.
            turned = Image.Image.getexif(image).get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
    except _DAMAGE:
        return None
    return (image.height, image.width) if turned else image.size


def rgb_of(picture: Image.Image) -> Image.Image:
    """Return a picture that is open already as 8-bit RGB; raises `PhotoError` where its file is damaged, or closed."""
    try:
        picture.load()
        return to_rgb(picture)
    except _DAMAGE as error:
        raise PhotoError(f"the picture can not be read: {error or type(error).__name__}") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Return ``image`` as 8-bit RGB; 16-bit greys are scaled, transparency is laid over white."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _eight_bit(image)
    if image.mode == "La":  # which Pillow turns into nothing but LA
        image = image.convert("LA")
    if image.mode in ("P", "PA", "LA", "RGBA", "RGBa") or "transparency" in image.info:
        layered = image.convert("RGBA")
        white = Image.new("RGBA", layered.size, "white")
        return Image.alpha_composite(white, layered).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _eight_bit(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.float64)
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    if image.mode == "F":  # floats have no agreed range: 0..1 and 0..255 are common, others are stretched
        top = values.max()
        values = values * 255 if values.min() >= 0 and top <= 1 else values if top <= 255 else values / top * 255
    elif values.max() > 255:
        values = values / 65535 * 255
    return Image.fromarray(np.clip(np.round(values), 0, 255).astype(np.uint8))


class _unlimited_header:  # noqa: N801  - used as a function
    """Lift Pillow's own pixel limit while a header is read: `check_size` applies ours, with a message of its own."""

    def __enter__(self) -> None:
        _OPENING.acquire()
        self.limit = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None

    def __exit__(self, *_: object) -> None:
        Image.MAX_IMAGE_PIXELS = self.limit
        _OPENING.release()


def is_photo_name(path: Path) -> bool:
    """Whether the file's suffix is one of a picture."""
    return path.suffix.lower() in SUFFIXES
