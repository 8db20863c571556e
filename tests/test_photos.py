"""Photos as people have them: each kind is opened, or refused in a sentence; found once; loaded in order."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dualcam.data.photos import open_photo, photo_size
from dualcam.data.prepared import Prepared
from dualcam.data.preprocessing import Preprocessing
from dualcam.data.stream import Broken, Loader, find_photos, stream
from dualcam.errors import ChoiceError, DataError, PhotoError

ORIENTATION = 0x0112
RED, BLUE = (220, 30, 30), (30, 30, 220)


def halves(width: int = 40, height: int = 20) -> Image.Image:
    """Red on the left, blue on the right."""
    image = Image.new("RGB", (width, height), BLUE)
    image.paste(RED, (0, 0, width // 2, height))
    return image


def near(pixel: Any, color: tuple[int, int, int], slack: int = 40) -> bool:
    return bool(np.abs(np.asarray(pixel, int) - color).max() <= slack)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tif", ".gif", ".ppm"])
def test_formats(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a photo, süß 猫{suffix}"
    halves().save(path)
    image = open_photo(path)
    assert (image.mode, image.size) == ("RGB", (40, 20))
    assert near(image.getpixel((5, 10)), RED) and near(image.getpixel((35, 10)), BLUE)
    assert photo_size(path) == (40, 20)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1", "F"])
def test_modes(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("photo.tif" if mode in ("CMYK", "F") else "photo.png")
    (halves().convert("L") if mode == "F" else halves()).convert(mode).save(path)
    opened = open_photo(path)
    assert (opened.mode, opened.size) == ("RGB", (40, 20))
    if mode in ("P", "RGBA", "CMYK"):
        assert near(opened.getpixel((5, 10)), RED) and near(opened.getpixel((35, 10)), BLUE)


@pytest.mark.parametrize("name", ["photo.png", "photo.tif"])
def test_sixteen_bits_are_scaled(tmp_path: Path, name: str) -> None:
    values = np.linspace(0, 65535, 40 * 20).reshape(20, 40).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / name)
    opened = open_photo(tmp_path / name)
    np.testing.assert_allclose(np.asarray(opened)[..., 0], values / 257, atol=0.51)


def test_cmyk_jpeg(tmp_path: Path) -> None:
    halves().convert("CMYK").save(tmp_path / "print.jpg")
    assert near(open_photo(tmp_path / "print.jpg").getpixel((5, 10)), RED)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_lies_over_white(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "photo.png"
    if mode == "P":
        image = Image.new("P", (4, 4), 0)
        image.putpalette([0, 0, 0, *RED])
        image.save(path, transparency=0)
    else:
        Image.new(mode, (4, 4), (0,) * len(Image.new(mode, (1, 1)).getbands())).save(path)
    assert open_photo(path).getpixel((1, 1)) == (255, 255, 255)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation(tmp_path: Path, orientation: int) -> None:
    upright = halves()
    turns: dict[int, list[Image.Transpose]] = {
        1: [],
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }
    stored = upright
    for turn in turns[orientation]:
        stored = stored.transpose(turn)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored.save(tmp_path / "photo.png", exif=exif)
    opened = open_photo(tmp_path / "photo.png")
    assert opened.size == upright.size == photo_size(tmp_path / "photo.png")
    np.testing.assert_array_equal(np.asarray(opened), np.asarray(upright))


def test_of_several_frames_the_first(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in (RED, BLUE)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert near(open_photo(tmp_path / "moving.gif").getpixel((4, 4)), RED)


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1), (3, 2)])
@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
def test_small_and_thin_photos_load(tmp_path: Path, size: tuple[int, int], fit: Any) -> None:
    Image.new("RGB", size, RED).save(tmp_path / "photo.png")
    loaded = Loader(Preprocessing(size=(32, 48)), fit)(str(tmp_path / "photo.png"))
    assert isinstance(loaded, Prepared)
    assert loaded.tensor.shape == (3, 32, 48)
    assert loaded.placement.source == size
    assert max(loaded.picture().size) == 320


def test_a_hundred_megapixels_are_refused_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    Image.new("1", (12500, 8000)).save(path)
    with pytest.raises(PhotoError, match=r"100 megapixels \(12500 x 8000\); the limit is 64.*--max-megapixels"):
        open_photo(path)
    broken = Loader(Preprocessing())(str(path))
    assert isinstance(broken, Broken) and broken.size == (12500, 8000)
    allowed = Loader(Preprocessing(size=(32, 32)), max_megapixels=101)(str(path))
    assert isinstance(allowed, Prepared) and allowed.picture().size == (320, 205)


def _truncated(path: Path) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-2000])


@pytest.mark.parametrize(
    ("name", "make", "message", "size"),
    [
        ("cut.jpg", _truncated, "is damaged: .*truncated", (64, 64)),
        ("cut.png", _truncated, "is damaged", (64, 64)),
        ("empty.jpg", lambda path: path.write_bytes(b""), r"is empty \(0 bytes\)", None),
        ("text.jpg", lambda path: path.write_text("not a picture"), "is not a picture", None),
        ("folder.jpg", lambda path: path.mkdir(), "is a directory", None),
        ("gone.jpg", lambda path: None, "does not exist", None),
    ],
)
def test_broken_photos(
    tmp_path: Path, name: str, make: Callable[[Path], None], message: str, size: tuple[int, int] | None
) -> None:
    make(tmp_path / name)
    with pytest.raises(PhotoError, match=message):
        open_photo(tmp_path / name)
    broken = Loader(Preprocessing())(str(tmp_path / name))
    assert isinstance(broken, Broken)
    assert name in broken.error
    assert broken.size == size


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    halves().save(tmp_path / "secret.png")

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    broken = Loader(Preprocessing())(str(tmp_path / "secret.png"))
    assert isinstance(broken, Broken)
    assert broken.error.startswith("no permission to read") and broken.size is None


@pytest.fixture
def album(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with photos, hidden ones, and files that are none."""
    for name in (
        "b.jpg",
        "a.PNG",
        "sub/deep/c d.webp",
        "sub/ä.tif",
        ".hidden.jpg",
        ".git/x.png",
        "notes.txt",
        "[1].png",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_directories_are_searched(album: Path) -> None:
    photos = ["./[1].png", "./a.PNG", "./b.jpg", "./sub/ä.tif", "./sub/deep/c d.webp"]
    assert find_photos(["."]) == photos
    assert find_photos([str(album / "sub")]) == [str(album / "sub/ä.tif"), str(album / "sub/deep/c d.webp")]


def test_files_are_taken_at_their_word(album: Path) -> None:
    assert find_photos(["notes.txt", ".hidden.jpg", "[1].png"]) == ["notes.txt", ".hidden.jpg", "[1].png"]


@pytest.mark.parametrize(
    ("pattern", "photos"),
    [
        ("*.jpg", ["b.jpg"]),
        ("**/*.tif", ["sub/ä.tif"]),
        ("s*", ["sub/ä.tif", "sub/deep/c d.webp"]),
        ("sub/**", ["sub/deep/c d.webp", "sub/ä.tif"]),
    ],
)
def test_globs(album: Path, pattern: str, photos: list[str]) -> None:
    assert find_photos([pattern]) == photos


def test_each_photo_once(album: Path) -> None:
    (album / "link.jpg").symlink_to("b.jpg")
    assert find_photos(["b.jpg", "./b.jpg", str(album / "b.jpg"), "link.jpg", "b.*"]) == ["b.jpg"]


def test_results_are_not_searched(album: Path) -> None:
    (album / "out" / "panels").mkdir(parents=True)
    (album / "out" / "panels" / "b.png").write_bytes(b"x")
    (album / "notes.txt").unlink()
    assert not any("out" in photo for photo in find_photos([".", "**/*.png"], skip=Path("out")))


@pytest.mark.parametrize("item", ["gone.jpg", "gone/", "*.xyz", "empty", ""])
def test_what_matches_nothing_is_named(album: Path, item: str) -> None:
    (album / "empty").mkdir()
    with pytest.raises(DataError, match="no photo matches") as caught:
        find_photos(["b.jpg", item])
    assert repr(item) in str(caught.value)


def test_no_input_at_all() -> None:
    with pytest.raises(DataError, match="no photos given"):
        find_photos([])


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_come_in_order(workers: int) -> None:
    photos = [str(number) for number in range(11)]
    assert list(stream(photos, int, batch_size=4, workers=workers)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]
    assert list(stream([], int, workers=workers)) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_no_more_photos_are_held_than_two_batches_ahead(workers: int) -> None:
    loaded = 0
    lock = threading.Lock()

    def load(photo: str) -> int:
        nonlocal loaded
        with lock:
            loaded += 1
        return int(photo)

    batches = stream([str(number) for number in range(100)], load, batch_size=3, workers=workers)
    next(batches)
    assert loaded <= 3 * 3 + 1
    batches.close()  # type: ignore[attr-defined]
    assert loaded <= 3 * 3 + 1
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("photos")]


def test_an_error_in_a_worker_is_raised() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        list(stream(["1", "x"], int, workers=2))


@pytest.mark.parametrize(("batch_size", "workers"), [(0, 1), (1, -1)])
def test_impossible_work(batch_size: int, workers: int) -> None:
    with pytest.raises(ChoiceError, match="at least"):
        list(stream(["1"], int, batch_size=batch_size, workers=workers))
