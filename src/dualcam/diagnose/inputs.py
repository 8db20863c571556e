"""Which photos a diagnosis looks at, and what is known about them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dualcam import datasets
from dualcam.classes import match_classes
from dualcam.data.stream import find_photos
from dualcam.data.truth import Boxes
from dualcam.datasets import Dataset, find_layout, open_dataset
from dualcam.errors import ChoiceError, DataError
from dualcam.metrics.box_curve import scale_boxes
from dualcam.model import DualBranch

MOST_PHOTOS = 1000
GRID = 224


@dataclass(frozen=True)
class TrueBoxes:
    """Boxes of N photos in their source pixels; ``sizes`` [N, 2] as stated, None where the files have the last word."""

    boxes: Boxes
    sizes: NDArray[np.int64] | None = None

    def on_grid(self, photo: int, source: tuple[int, int]) -> NDArray[np.float64]:
        """Return the boxes [G, 4] of a photo of ``source`` (width, height) on a 224 x 224 grid over it."""
        stated = source if self.sizes is None else (int(self.sizes[photo, 0]), int(self.sizes[photo, 1]))
        return scale_boxes(self.boxes[photo], stated, grid=GRID, mode="clean")


@dataclass(frozen=True)
class Inputs:
    """Photos by path, in order; ``labels`` are the model's class indices, None where only the model can say.

    ``boxes`` are None where there are none, or the labels are not known; ``told`` says where the labels come from.
    ``found`` photos were there, of which these are a sample.
    """

    paths: tuple[str, ...]
    labels: NDArray[np.int64] | None
    boxes: TrueBoxes | None
    told: str
    found: int


def open_inputs(
    model: DualBranch,
    given: Sequence[str] = (),
    *,
    split: str | None = None,
    sample: int = 100,
    seed: int = 0,
    skip: Path | None = None,
) -> Inputs:
    """Return the photos that ``given`` names: files, folders, globs, one dataset, or nothing: the demo's photos.

    Of more than ``sample`` photos that many are drawn by ``seed``. What a search finds below ``skip``, the folder of
    earlier figures, is left out.
    Raises `DataError` and `ChoiceError`.
    """
    if not 1 <= sample <= MOST_PHOTOS:
        raise ChoiceError(f"--sample must lie in 1..{MOST_PHOTOS} (activations stay in memory); got {sample}")
    predicted = "the softmax branch's own predictions stand for labels"
    dataset = _find_dataset(given, split)
    if dataset is None:
        paths = find_photos(given, skip=skip) if given else _demo_photos()
        places = _draw(len(paths), sample, seed)
        return Inputs(tuple(paths[place] for place in places), None, None, predicted, len(paths))
    chosen = dataset.subset(_draw(len(dataset), sample, seed))
    paths = [str(chosen.root / path) for path in chosen.paths]
    try:
        index, _ = match_classes(model, chosen)
    except DataError:
        return Inputs(tuple(paths), None, None, f"the data's classes are not the model's; {predicted}", len(dataset))
    boxes = None if chosen.boxes is None else TrueBoxes(chosen.boxes, chosen.sizes)
    told = f"labels of the data (split {chosen.split!r})" if chosen.split else "labels of the data"
    return Inputs(tuple(paths), np.asarray(index[chosen.labels], np.int64), boxes, told, len(dataset))


def _find_dataset(given: Sequence[str], split: str | None) -> Dataset | None:
    if len(given) == 1 and Path(given[0]).expanduser().is_dir():
        try:
            find_layout(given[0])
        except DataError:
            if split is not None:
                raise
            return None
        return open_dataset(given[0], split or datasets.evaluation_split(given[0]))
    if split is not None:
        raise ChoiceError(f"--split {split} needs one dataset folder; got {' '.join(given) or 'no folder'}")
    return None


def _demo_photos() -> list[str]:
    from importlib.util import find_spec

    if find_spec("skimage") is None:
        raise DataError("without photos the demo's are taken, which come with scikit-image: install dualcam[demo]")
    from dualcam.demo.photos import photo_paths

    return [str(path) for path in photo_paths()]


def _draw(count: int, sample: int, seed: int) -> NDArray[np.int64]:
    if count <= sample:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).permutation(count)[:sample])
