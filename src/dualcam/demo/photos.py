"""The real photos that come with scikit-image."""

from pathlib import Path

NAMES = ("chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg", "astronaut.png")


def photo_paths() -> list[Path]:
    """Return the paths of the photos in the installed package; nothing is downloaded."""
    import skimage

    folder = Path(skimage.__file__).parent / "data"
    return [folder / name for name in NAMES]
