"""What a classifier expects of its input, and how a photo is brought there and boxes back."""

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dualcam.errors import ChoiceError, check_choice, check_size
from dualcam.types import Fit

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
LEAST_SIDE = 32
_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class Preprocessing:
    """Input size (height, width) in pixels, mean and deviation of [0, 1] RGB values, interpolation.

    ``crop_share`` is the share of the resized short side that the model's own evaluation crop keeps; only
    ``fit="crop"`` uses it. ``origin`` says where the values come from.
    """

    size: tuple[int, int] = (224, 224)
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    interpolation: Interpolation = "bilinear"
    crop_share: float = 1.0
    origin: str = "given"

    def __post_init__(self) -> None:
        check_choice("interpolation", self.interpolation, _RESAMPLING)
        check_size("size", self.size)
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != 3 or not all(np.isfinite(value) for value in values) or (name == "std" and 0 in values):
                what = "three numbers, of red, green and blue" + (", none of them 0" if name == "std" else "")
                raise ChoiceError(f"{name} must be {what}; got {values}")
        if not 0 < self.crop_share <= 1:
            raise ChoiceError(f"crop_share must lie in (0, 1]; got {self.crop_share}")

    def sized(self, side: int | None) -> "Preprocessing":
        """Return this for square input of ``side`` pixels (None: as it is); raises `ChoiceError` below 32 pixels."""
        if side is None:
            return self
        if side < LEAST_SIDE:
            raise ChoiceError(f"--size must be at least {LEAST_SIDE} pixels; got {side}")
        return replace(self, size=(side, side))

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Preprocessing":
        """Build from what `to_json` returned."""
        given: dict[str, Any] = {key: tuple(item) if isinstance(item, list) else item for key, item in fields.items()}
        return cls(**given)

    def normalize(self, image: Image.Image) -> Tensor:
        """Return the RGB ``image`` as a float32 tensor [3, H, W] with mean and deviation applied."""
        pixels: NDArray[np.float32] = np.asarray(image, dtype=np.float32) / np.float32(255)
        pixels -= np.asarray(self.mean, np.float32)
        pixels /= np.asarray(self.std, np.float32)
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))

    def denormalize(self, tensor: Tensor) -> Image.Image:
        """Return a normalized [3, H, W] tensor as an RGB picture; values outside of [0, 1] are cut."""
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (self.mean, self.std))
        pixels = (tensor.detach().float().cpu() * std + mean).clamp(0, 1).mul(255).round()
        return Image.fromarray(pixels.to(torch.uint8).permute(1, 2, 0).contiguous().numpy())


@dataclass(frozen=True)
class Placement:
    """Where the source pixels lie in the model's input: input = source * scale + offset, per axis (x, y)."""

    source: tuple[int, int]
    input: tuple[int, int]
    scale: tuple[float, float]
    offset: tuple[float, float]

    @classmethod
    def identity(cls, width: int, height: int) -> "Placement":
        """Return the placement of an input that is its own source."""
        return cls((width, height), (width, height), (1.0, 1.0), (0.0, 0.0))


def place(
    image: Image.Image,
    preprocessing: Preprocessing,
    fit: Fit = "squash",
    *,
    box: tuple[float, float, float, float] | None = None,
) -> tuple[Image.Image, Placement]:
    """Bring an RGB photo to the input size.

    ``squash`` resizes the whole photo, aspect not kept; ``crop`` resizes the short side and keeps the centre, as the
    model's own evaluation does; ``pad`` resizes the long side and fills up with the mean color. With ``squash``,
    ``box`` (XYXY in source pixels, fractions allowed) takes that part of the photo instead of the whole.
    """
    check_choice("fit", fit, ("squash", "crop", "pad"))
    height, width = preprocessing.size
    source = (image.width, image.height)
    filter_ = _RESAMPLING[preprocessing.interpolation]
    if fit == "squash":
        x0, y0, x1, y1 = box or (0.0, 0.0, float(image.width), float(image.height))
        scale = (width / (x1 - x0), height / (y1 - y0))
        offset = (-x0 * scale[0], -y0 * scale[1])
        resized = image.resize((width, height), filter_, box=(x0, y0, x1, y1))
        return resized, Placement(source, (width, height), scale, offset)
    ratios = (width / image.width, height / image.height)
    ratio = max(ratios) / preprocessing.crop_share if fit == "crop" else min(ratios)
    extent = (max(1, round(image.width * ratio)), max(1, round(image.height * ratio)))
    left, top = round((width - extent[0]) / 2), round((height - extent[1]) / 2)
    scale = (extent[0] / image.width, extent[1] / image.height)
    fill = tuple(round(255 * value) for value in preprocessing.mean)
    canvas = Image.new("RGB", (width, height), fill)
    if fit == "crop":
        # Resizing only the window that is kept: a long, thin photo would otherwise become a huge intermediate.
        window = (-left / scale[0], -top / scale[1], (width - left) / scale[0], (height - top) / scale[1])
        window = (max(0.0, window[0]), max(0.0, window[1]), min(source[0], window[2]), min(source[1], window[3]))
        canvas = image.resize((width, height), filter_, box=window)
    else:
        canvas.paste(image.resize(extent, filter_), (left, top))
    return canvas, Placement(source, (width, height), scale, (float(left), float(top)))


def interpolation_weights(cells: int, pixels: int, scale: float, offset: float, extent: int) -> NDArray[np.float32]:
    """Return bilinear weights [pixels, cells] from feature cells to source pixels along one axis.

    Pixel centres are carried into the input (``scale``, ``offset``) of ``extent`` pixels, which the cells divide
    evenly (no aligned corners, borders replicated). Source pixels outside of the input get zero weight. For a
    squashed photo this equals `torch.nn.functional.interpolate(mode="bilinear", align_corners=False)`.
    """
    centre = (np.arange(pixels) + 0.5) * scale + offset
    inside = (centre >= 0) & (centre <= extent)
    position = np.clip(centre / extent * cells - 0.5, 0, cells - 1)
    low = np.floor(position).astype(np.int64)
    high = np.minimum(low + 1, cells - 1)
    share = position - low
    weights = np.zeros((pixels, cells))
    index = np.arange(pixels)
    np.add.at(weights, (index, low), 1 - share)
    np.add.at(weights, (index, high), share)
    weights[~inside] = 0
    return weights.astype(np.float32)


def to_source(
    raw: NDArray[np.float32], placement: Placement, size: tuple[int, int] | None = None
) -> NDArray[np.float32]:
    """Resize a map [h, w] over the input to the source photo, or to ``size`` (height, width) of the whole source."""
    width, height = placement.source
    rows, columns = size or (height, width)
    shrink_y, shrink_x = height / rows, width / columns
    vertical = interpolation_weights(
        raw.shape[0], rows, placement.scale[1] * shrink_y, placement.offset[1], placement.input[1]
    )
    horizontal = interpolation_weights(
        raw.shape[1], columns, placement.scale[0] * shrink_x, placement.offset[0], placement.input[0]
    )
    resized: NDArray[np.float32] = vertical @ raw.astype(np.float32) @ horizontal.T
    return resized
