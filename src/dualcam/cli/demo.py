"""`dualcam demo`: the main job on real photos, and a whole small run of the product."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def demo(
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"], help="Folder for the pictures and index.html.")] = Path(
        "demo-output"
    ),
) -> int:
    """Show dualcam at work: explain real photos, then train and measure a branch. About a minute, no network."""
    from importlib.util import find_spec

    from dualcam.errors import DataError

    missing = [name for name in ("skimage", "sklearn") if find_spec(name) is None]
    if missing:
        raise DataError("the demo's photos and digits come with scikit-image and scikit-learn: install dualcam[demo]")
    from dualcam.demo.run import run_demo

    page = run_demo(out)
    print(f"The pictures are in {page.parent}; open {page.resolve()} in a browser.")
    return 0


COMMAND = demo
