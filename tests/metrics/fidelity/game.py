"""A small classifier whose answers differ from photo to photo, and photos and maps to ask it about."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

CLASSES = 5


class Classifier(nn.Module):
    """A smooth, non-linear function of every pixel: logits [B, 5] of photos [B, 3, H, W] of any size."""

    def __init__(self, size: tuple[int, int], *, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.first = nn.Parameter(torch.randn(16, 3 * size[0] * size[1], generator=generator, dtype=torch.float64) / 4)
        self.second = nn.Parameter(torch.randn(CLASSES, 16, generator=generator, dtype=torch.float64))

    def forward(self, photos: Tensor) -> Tensor:
        logits: Tensor = torch.tanh(photos.double().flatten(1) @ self.first.T) @ self.second.T
        return logits

    @torch.no_grad()
    def probabilities(self, photos: Tensor, k: int) -> Tensor:
        """p_k, [B], of photos [B, 3, H, W]."""
        found: Tensor = self(photos).softmax(1)[:, k]
        return found


class GivenMaps:
    """What torchcam's metrics take for an extractor of maps: it returns those that were given."""

    def __init__(self, model: nn.Module, maps: Tensor) -> None:
        self.model, self.maps = model, maps

    def __call__(self, *_: object, **__: object) -> list[Tensor]:
        return [self.maps]

    def fuse_cams(self, cams: list[Tensor]) -> Tensor:
        return cams[0]

    @contextmanager
    def _hooks_off(self) -> Iterator[None]:
        yield


def photos_and_maps(count: int, size: tuple[int, int] = (8, 10), *, seed: int = 3) -> tuple[Tensor, Tensor]:
    """Photos [count, 3, H, W] and maps [count, H, W] in [0, 1] without ties, in double precision."""
    generator = torch.Generator().manual_seed(seed)
    photos = torch.rand(count, 3, *size, generator=generator, dtype=torch.float64)
    ranks = torch.stack([torch.randperm(size[0] * size[1], generator=generator) for _ in range(count)])
    return photos, (ranks.double() / (size[0] * size[1] - 1)).reshape(count, *size)
