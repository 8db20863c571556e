"""What training costs: building the cache and ten epochs, over decoding, augmenting and forwarding the same views.

    python -m benchmarks.train [--model torchvision:mobilenet_v3_small] [--photos 240] [--views 4] [--rounds 3]

Photos are made of scikit-image's; the default model, its 1000 classes, or another with random weights. Wall time,
rounds in turns, ratio of medians. Both sides run in the process set up as the command line sets up its own.
"""

import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from cyclopts import App
from PIL import Image
from skimage import data

import dualcam
from dualcam.cli.runtime import tune_process
from dualcam.data.views import PhotoViews, ViewRecipe
from dualcam.datasets import Dataset, open_dataset
from dualcam.guards import evaluating
from dualcam.model import DualBranch
from dualcam.training.cache import CPU_ROWS

BUILTIN = "builtin:efficientnet-lite0"
app = App(help=__doc__)


def write_photos(root: Path, count: int) -> Dataset:
    """Write JPEGs of 500 x 375 cut from real pictures, two for each class."""
    generator = np.random.default_rng(0)
    sources = [data.chelsea(), data.coffee(), data.astronaut(), data.rocket()]
    for number in range(count):
        picture = Image.fromarray(sources[number % len(sources)])
        x, y = generator.uniform(0, 0.3, 2)
        box = (x * picture.width, y * picture.height, picture.width, picture.height)
        folder = root / f"{number // 2}"
        folder.mkdir(parents=True, exist_ok=True)
        picture.resize((500, 375), Image.Resampling.BICUBIC, box=box).save(folder / f"{number}.jpg", quality=90)
    return open_dataset(root)


def forward_only(model: DualBranch, dataset: Dataset, views: int) -> float:
    """Return the wall seconds to decode, augment and forward all views, in batches of the size the cache uses."""
    start = time.perf_counter()
    photos = PhotoViews(dataset, model.preprocessing, ViewRecipe("crop", views, 1.0, 0))
    with torch.inference_mode(), evaluating(model):
        for position in range(len(photos)):
            _, tensor = photos[position]
            assert isinstance(tensor, torch.Tensor)
            for part in torch.split(tensor, CPU_ROWS):
                model.classifier(part)
    return time.perf_counter() - start


def cache_and_train(model: DualBranch, dataset: Dataset, views: int) -> float:
    """Return the wall seconds of a whole run: features of all views, ten epochs of SGD."""
    start = time.perf_counter()
    dualcam.fit(model, dataset, epochs=10, views=views, val_share=0)
    return time.perf_counter() - start


@app.default
def main(*, model: str = BUILTIN, photos: int = 240, views: int = 4, rounds: int = 3) -> None:
    """Print the ratio."""
    tune_process()
    wrapped = dualcam.wrap(model, weights="pretrained" if model == BUILTIN else "random")
    with tempfile.TemporaryDirectory() as folder:
        dataset = write_photos(Path(folder), photos)
        plain, whole = [], []
        for _ in range(rounds):
            plain.append(forward_only(wrapped, dataset, views))
            whole.append(cache_and_train(wrapped, dataset, views))
    count, base, full = photos * views, median(plain), median(whole)
    print(f"{count} views: forward only {base:.1f} s ({1e3 * base / count:.1f} ms a view)")
    print(f"cache and 10 epochs of {wrapped.classes} classes {full:.1f} s: ratio {full / base:.3f}")


if __name__ == "__main__":
    app()
