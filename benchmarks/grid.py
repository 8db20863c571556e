"""What benchmarks of the evaluation share: the model with all its branches, its grid, and the photos."""

from pathlib import Path

import torch

import dualcam
from dualcam.evaluation.cells import Grid, make_grid
from dualcam.evaluation.photos import Photos, choose_photos
from dualcam.model import DualBranch

BATCH = 16


def prepare(model: str | None, weights: str, data_root: Path) -> tuple[DualBranch, Grid, Photos]:
    """Return the model on one thread, the cells of all that applies to it, and imagenet-val-subset of ``data_root``.

    Its sigmoid branch is moved off the clone, or half of the grid would be identities.
    """
    torch.set_num_threads(1)
    wrapped = dualcam.wrap(model, weights=weights)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in wrapped.sigmoid_head.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=1e-3)
    photos = choose_photos(wrapped, data_root / "imagenet-val-subset", split="val", select="none")
    return wrapped, make_grid(wrapped), photos
