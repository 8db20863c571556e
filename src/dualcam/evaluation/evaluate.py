"""A whole evaluation from Python: photos in, figures with intervals out."""

from dataclasses import asdict
from os import PathLike
from pathlib import Path
from typing import Any

from rich.progress import Progress

from dualcam.checkpoint import fingerprint
from dualcam.evaluation.cells import Grid, make_grid
from dualcam.evaluation.fidelity import Fidelity
from dualcam.evaluation.measure import Protocol
from dualcam.evaluation.photos import Photos
from dualcam.evaluation.records import Records
from dualcam.evaluation.run import Evaluation, run_evaluation
from dualcam.evaluation.summary import Summary, summarize
from dualcam.evaluation.views import make_views
from dualcam.model import DualBranch


def evaluate(
    model: DualBranch,
    photos: Photos,
    folder: str | PathLike[str],
    *,
    grid: Grid | None = None,
    fidelity: Fidelity | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Summary:
    """Judge the maps of ``grid`` (default: the usual one) on ``photos``; broken ones are counted and left out.

    ``photos`` are from `choose_photos`, ``fidelity`` from `choose_fidelity`; localization is judged where the photos
    have truth. ``options`` are those of `Evaluation`. Records lie in ``folder``: what was measured before is not
    measured again, and other settings raise `CheckpointError`.
    """
    grid = grid or make_grid(model)
    usual = {"views": make_views(model.preprocessing), "protocol": Protocol(grid.normalizations)}
    work = Evaluation(model=model, photos=photos, kinds=tuple(grid.computed), fidelity=fidelity, **{**usual, **options})
    run = {
        "model": fingerprint(model),
        "photos": [part.digest() for part in photos.parts],
        "kinds": work.kinds,
        "views": [asdict(view) for view in work.views],
        "protocol": asdict(work.protocol),
        "fidelity": None if fidelity is None else asdict(fidelity),
        "maps": {"fit": work.fit, "guided": work.guided},
    }
    records = Records(Path(folder), run, work.record_type(), len(photos))
    run_evaluation(work, records, progress or Progress(disable=True))
    return summarize(grid, records.rows, photos.choosing, photos.reported, fidelity, photos.numbers)
