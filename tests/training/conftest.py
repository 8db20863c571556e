"""Five classes of small photos, and a tiny classifier of five classes."""

from pathlib import Path

import pytest

from tests.photos_on_disk import write_folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """An image folder: classes 0 to 4, six photos each."""
    folder = tmp_path / "photos"
    write_folder(folder, {str(label): 6 for label in range(5)})
    return folder
