"""Find photos, and load them in threads while the model works: memory does not grow with their number."""

import glob
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from PIL import Image

from dualcam.data.photos import MAX_MEGAPIXELS, SUFFIXES, is_photo_name, open_photo, photo_size
from dualcam.data.prepared import Prepared
from dualcam.data.preprocessing import Preprocessing, place
from dualcam.errors import ChoiceError, DataError, PhotoError
from dualcam.types import Fit

T = TypeVar("T")


def find_photos(inputs: Sequence[str], *, skip: Path | None = None) -> list[str]:
    """Return the photos that ``inputs`` name, each once, in the order of the inputs.

    An input is a file, whatever its suffix; a directory, searched with all below it for the suffixes of pictures,
    hidden files left out; or a glob ("**" for any depth). What a search finds below ``skip`` is left out: the folder
    of earlier panels. Raises `DataError` naming the inputs that match nothing.
    """
    if not inputs:
        raise DataError("no photos given; name photos, directories or globs")
    found: dict[str, str] = {}
    empty = []
    for item in inputs:
        photos = list(_expand(os.path.expanduser(item), skip.resolve() if skip else None))  # noqa: PTH111
        if not photos:
            empty.append(item)
        for photo in photos:
            found.setdefault(os.path.realpath(photo), photo)
    if empty:
        raise DataError(
            f"no photo matches {', '.join(map(repr, empty))}; looked for a file, for a directory with "
            f"{' '.join(sorted(SUFFIXES))} in it or below, and for a glob"
        )
    return list(found.values())


def _expand(item: str, skip: Path | None) -> Iterator[str]:
    if os.path.isfile(item):  # noqa: PTH113  - strings as the user wrote them: Path("./a") forgets the dot
        yield item
    elif os.path.isdir(item):  # noqa: PTH112
        yield from _search(item, skip)
    elif glob.has_magic(item):
        for match in sorted(glob.glob(item, recursive=True)):  # noqa: PTH207
            if os.path.isdir(match):  # noqa: PTH112
                if "**" not in item:
                    yield from _search(match, skip)
            elif not _is_below(Path(match), skip):
                yield match


def _search(folder: str, skip: Path | None) -> Iterator[str]:
    """Yield the photos in and below ``folder``, sorted, hidden ones left out."""

    def fail(error: OSError) -> None:
        raise DataError(f"the directory {error.filename} can not be read: {error.strerror}") from error

    for root, folders, names in os.walk(folder, onerror=fail):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if _is_below(Path(root), skip):
            folders.clear()
            continue
        for name in sorted(names):
            path = Path(root, name)
            if not name.startswith(".") and is_photo_name(path) and (path.is_file() or path.is_symlink()):
                yield os.path.join(root, name)  # noqa: PTH118


def _is_below(path: Path, folder: Path | None) -> bool:
    return folder is not None and path.resolve().is_relative_to(folder)


@dataclass(frozen=True)
class Broken:
    """A photo that can not be read: why, and its (width, height) where the header tells."""

    photo: str
    error: str
    size: tuple[int, int] | None


@dataclass(frozen=True)
class Loader:
    """Loads one photo for the model, with a small picture of it (long side ``view`` pixels) for the panel."""

    preprocessing: Preprocessing
    fit: Fit = "squash"
    max_megapixels: float = MAX_MEGAPIXELS
    view: int = 320

    def __call__(self, photo: str) -> Prepared | Broken:
        """Return the photo ready for the model, or why it can not be read. It is opened once, and not kept."""
        try:
            image = open_photo(photo, max_megapixels=self.max_megapixels)
        except PhotoError as error:
            return Broken(photo, str(error), photo_size(photo))
        placed, placement = place(image, self.preprocessing, self.fit)
        ratio = self.view / max(image.size)
        extent = (max(1, round(image.width * ratio)), max(1, round(image.height * ratio)))
        small = image.resize(extent, Image.Resampling.BICUBIC, reducing_gap=2.0)
        return Prepared(self.preprocessing.normalize(placed), placement, photo, partial(_itself, small))


def check_work(batch_size: int, workers: int) -> None:
    """Raise `ChoiceError` for a batch size below 1 or workers below 0."""
    if batch_size < 1 or workers < 0:
        raise ChoiceError(
            f"batch size must be at least 1 and workers at least 0; got batch size {batch_size}, workers {workers}"
        )


def stream(
    photos: Sequence[str], load: Callable[[str], T], *, batch_size: int = 16, workers: int = 2
) -> Iterator[list[T]]:
    """Yield batches of what ``load`` makes of ``photos``, in order.

    ``workers`` threads load at most two batches ahead (Pillow decodes and resizes outside of Python's lock); with 0
    each photo is loaded when it is wanted.
    """
    check_work(batch_size, workers)
    results = map(load, photos) if workers == 0 else _load_ahead(photos, load, workers, ahead=2 * batch_size)
    batch: list[T] = []
    for result in results:
        batch.append(result)
        if len(batch) == batch_size:
            yield batch
            batch = []
    if batch:
        yield batch


def _load_ahead(photos: Sequence[str], load: Callable[[str], T], workers: int, ahead: int) -> Iterator[T]:
    pending: deque[Future[T]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="photos")
    try:
        for photo in photos:
            pending.append(pool.submit(load, photo))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _itself(image: Image.Image) -> Image.Image:
    return image
