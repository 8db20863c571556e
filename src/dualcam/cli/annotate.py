"""`dualcam annotate`: photos with image labels only to training data for a detector."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from dualcam.annotation.settings import BoxSettings, ExportSettings
from dualcam.cli.explain import WorkOptions, split_classes
from dualcam.cli.options import FastModelOptions, open_model


def annotate(
    *photos: Annotated[str, Parameter(help="Files, directories, globs; or one dataset (docs/datasets.md).")],
    out: Annotated[Path, Parameter(name=["--out", "-o"], help="Folder for the annotations.")],
    split: Annotated[str | None, Parameter(help="Split of the dataset (default: train, where it has splits).")] = None,
    model: FastModelOptions = FastModelOptions(),  # noqa: B008  - frozen
    boxes: Annotated[BoxSettings, Parameter(name="*", negative="")] = BoxSettings(),  # noqa: B008
    export: Annotated[ExportSettings, Parameter(name="*", negative="")] = ExportSettings(),  # noqa: B008
    work: WorkOptions = WorkOptions(),  # noqa: B008
) -> int:
    """Make pseudo-boxes and masks for photos that have image labels only.

    They are guesses of a classifier: look at some before a detector learns them (docs/annotate.md). The same command
    again continues where it stopped; another --format or --min-score needs no second run of the model.
    """
    from rich.console import Console

    from dualcam.annotate import annotate as run
    from dualcam.annotate import check_settings
    from dualcam.annotation.agreement import as_table
    from dualcam.annotation.inputs import open_inputs
    from dualcam.data.stream import check_work
    from dualcam.errors import DataError
    from dualcam.progress import progress_bar

    check_settings(boxes, export)
    check_work(work.batch_size, work.workers)
    found = open_inputs(photos, boxes.classes, split, skip=out)
    wrapped = open_model(model)
    if boxes.classes:
        classes = split_classes(boxes.classes, wrapped.class_names)
        boxes = replace(boxes, classes=(classes,) if isinstance(classes, str) else tuple(map(str, classes)))
    try:
        with progress_bar() as progress:
            summary = run(
                wrapped,
                found,
                out,
                boxes,
                export,
                batch_size=work.batch_size,
                workers=work.workers,
                overwrite=work.overwrite,
                progress=progress,
            )
    except OSError as error:  # photos that can not be read are not among these: they have lines of their own
        raise DataError(
            f"the annotations can not be written: {error}; make room or choose another folder (-o)"
        ) from error
    if summary.tallies is not None:
        Console(width=None if sys.stdout.isatty() else 160).print(as_table(summary.tallies))
    print(
        f"{len(found) - summary.broken} of {len(found)} photos annotated; {summary.file} has {summary.boxes} "
        f"pseudo-boxes of {summary.photos} photos, {summary.without_boxes} of them without any"
    )
    return 1 if summary.broken else 0


COMMAND = annotate
