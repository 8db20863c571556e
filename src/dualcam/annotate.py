"""A run over many photos: explain, find boxes and masks, write training data for a detector.

Memory does not grow with the number of photos but for their paths: what was found waits in ``annotations.jsonl``.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress
from torch import Tensor

from dualcam.annotation import Annotation, ClassRegions, category_names, formats
from dualcam.annotation.agreement import Tally, as_json, judge
from dualcam.annotation.inputs import Inputs, make_inputs
from dualcam.annotation.ledger import SUMMARY, Ledger
from dualcam.annotation.regions import class_regions
from dualcam.annotation.settings import BoxSettings, ExportSettings
from dualcam.checkpoint import fingerprint, versions
from dualcam.data.prepared import Prepared
from dualcam.data.stream import Broken, Loader, check_work, stream
from dualcam.datasets import Dataset
from dualcam.errors import ChoiceError, check_choice
from dualcam.explainer import Settings, check_classes, check_options, choose_classes, explain_forward, run_model
from dualcam.files import write_json
from dualcam.model import DualBranch
from dualcam.targets import Classes


@dataclass(frozen=True)
class Summary:
    """What there is now in the folder: photos annotated and broken, boxes, photos without one, the file to open.

    ``tallies`` compare with true boxes, by class; None where there are none.
    """

    photos: int
    broken: int
    boxes: int
    without_boxes: int
    file: Path
    tallies: dict[str, Tally] | None


def annotate(
    model: DualBranch,
    photos: Sequence[str] | Dataset,
    out: Path,
    settings: BoxSettings = BoxSettings(),  # noqa: B008  - frozen
    export: ExportSettings = ExportSettings(),  # noqa: B008
    *,
    batch_size: int = 16,
    workers: int = 2,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Summary:
    """Find boxes and masks in ``photos`` and write them to the folder ``out``.

    They are those of each photo's label in a dataset, or of the model's choice; see `BoxSettings`.

    Photos annotated there before are passed over; broken ones are reported, and tried again by the next run. Raises
    `ChoiceError`, `ClassNotFound`, `MethodNotApplicable`, `DataError`, and `CheckpointError` where ``out`` holds
    annotations of other settings.
    """
    check_settings(settings, export)
    check_work(batch_size, workers)
    inputs = make_inputs(model, photos, settings.classes, multi_label=settings.multi_label)
    check_classes(model, inputs.classes)
    explaining = check_options(
        model, method=settings.method, branch=settings.branch, sign=settings.sign, normalize=settings.normalize
    )
    export = replace(export, root=export.root or inputs.root)
    for photo in inputs.photos:
        name_from(export.root, os.path.abspath(photo), photo)  # noqa: PTH100
    progress = progress or Progress(disable=True)
    if inputs.told:
        progress.console.print(inputs.told, markup=False, highlight=False, soft_wrap=True)
    ledger = Ledger(out, describe_run(model, settings, inputs), overwrite=overwrite)
    form = formats.get(export.format)
    ledger.claim(export.format, form.OUTPUTS)
    loader = Loader(model.preprocessing, settings.fit, settings.max_megapixels, view=1)  # no panel is drawn
    with ledger:
        ledger.forget_errors(map(ledger.name_of, inputs.photos))
        todo = [photo for photo in inputs.photos if not ledger.is_done(ledger.name_of(photo))]
        task = progress.add_task("annotating", total=len(inputs.photos), completed=len(inputs.photos) - len(todo))
        broken = 0
        for batch in stream(todo, loader, batch_size=batch_size, workers=workers):
            for photo, outcome in _annotate(model, batch, inputs, explaining, settings):
                if isinstance(outcome, Broken):
                    broken += 1
                    ledger.add(photo, outcome.size, error=outcome.error)
                    progress.console.print(f"skipped: {outcome.error}", markup=False, highlight=False, soft_wrap=True)
                else:
                    ledger.add(photo, outcome[0], outcome[1])
                progress.advance(task)
    return _export(model, ledger, export, inputs, broken)


def check_settings(settings: BoxSettings, export: ExportSettings) -> None:
    """Raise `ChoiceError` for settings that no model can meet."""
    formats.get(export.format)
    check_choice("boxes", settings.boxes, ("largest", "all"))
    check_choice("sign", settings.sign, ("positive", "signed"))
    check_choice("fit", settings.fit, ("squash", "crop", "pad"))
    check_choice("yolo_images", export.yolo_images, ("link", "list"))
    if not 0 <= settings.threshold < 1:
        raise ChoiceError(f"--threshold must lie in [0, 1) of the map's maximum; got {settings.threshold}")
    if not 0 <= export.min_score <= 1:
        raise ChoiceError(f"--min-score is a probability in [0, 1]; got {export.min_score}")
    if not settings.max_megapixels > 0:
        raise ChoiceError(f"--max-megapixels must be above 0; got {settings.max_megapixels:g}")


def describe_run(model: DualBranch, settings: BoxSettings, inputs: Inputs) -> dict[str, Any]:
    """Return what annotate.json says."""
    record = model.training_record or {}
    classes = "labels" if inputs.classes is None else inputs.classes
    return {
        "model": {
            "source": model.source,
            "layer": model.anatomy.layer,
            "fingerprint": fingerprint(model),
            "training": record.get("summary"),
        },
        "settings": {**asdict(settings), "classes": classes},
        "versions": versions(),
    }


def name_from(root: Path | None, path: str, given: str) -> str:
    """Return the name of the photo at ``path`` in the files: from ``root`` on, or as ``given`` where that is None."""
    if root is None:
        return given
    relative = os.path.relpath(path, os.path.abspath(root))  # noqa: PTH100
    if relative.split(os.sep, 1)[0] == os.pardir:
        raise ChoiceError(
            f"{path} does not lie below --root {root}; name a folder that holds all photos, or leave it out"
        )
    return relative.replace(os.sep, "/")


Found = tuple[tuple[int, int], list[ClassRegions]]


def _annotate(
    model: DualBranch, batch: Sequence[Prepared | Broken], inputs: Inputs, explaining: Settings, settings: BoxSettings
) -> Iterator[tuple[str, Found | Broken]]:
    """Yield what became of each photo of ``batch``, in order, by one run of the model."""
    ready = [item for item in batch if isinstance(item, Prepared)]
    found = iter(_regions(model, ready, _asked(inputs, ready), explaining, settings) if ready else [])
    for item in batch:
        if isinstance(item, Broken):
            yield item.photo, item
            continue
        photo, classes = item.source or "", next(found)
        if classes is None:
            error = f"{photo}: the model's scores or activations are not finite numbers"
            yield photo, Broken(photo, error, item.placement.source)
        else:
            yield photo, (item.placement.source, classes)


def _asked(inputs: Inputs, batch: Sequence[Prepared]) -> Classes:
    if inputs.labels is None:
        return inputs.classes
    rows = [torch.tensor(inputs.labels[item.source or ""]) for item in batch]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1)


def _regions(
    model: DualBranch, batch: Sequence[Prepared], classes: Classes, explaining: Settings, settings: BoxSettings
) -> Iterator[list[ClassRegions] | None]:
    """Yield each photo's regions; None for a photo whose scores or maps are not finite."""
    forward = run_model(model, batch)
    index: Tensor = classes if isinstance(classes, Tensor) else choose_classes(model, forward, classes)
    most = 1 if settings.boxes == "largest" else None
    for each in explain_forward(model, forward, index, explaining):
        if each.is_finite:
            yield [
                ClassRegions(item.index, item.name, item.probability, class_regions(item, settings.threshold, most))
                for item in each
            ]
        else:
            yield None


@dataclass(frozen=True)
class _Kept:
    """The photos of a ledger as the files have them; can be passed over again and again."""

    ledger: Ledger
    export: ExportSettings

    def __iter__(self) -> Iterator[Annotation]:
        for item in self.ledger.annotations():
            classes = tuple(
                found if found.score >= self.export.min_score else replace(found, regions=()) for found in item.classes
            )
            kept = replace(item, photo=name_from(self.export.root, item.path, item.photo), classes=classes)
            if kept.boxes or not self.export.drop_empty:
                yield kept


def _export(model: DualBranch, ledger: Ledger, export: ExportSettings, inputs: Inputs, broken: int) -> Summary:
    """Write the format's files and summary.json from all photos in the folder."""
    kept, names = _Kept(ledger, export), category_names(model.class_names, model.classes)
    file: Path = formats.get(export.format).write(formats.Export(ledger.folder, kept, names, export))
    counts = [0, 0, 0]
    for item in kept:
        number = len(item.boxes)
        counts = [counts[0] + 1, counts[1] + number, counts[2] + (number == 0)]
    tallies = None if inputs.truth is None else judge(kept, inputs.truth)
    write_json(
        ledger.folder / SUMMARY,
        {
            "photos": counts[0],
            "broken": broken,
            "boxes": counts[1],
            "photos_without_boxes": counts[2],
            "format": export.format,
            "min_score": export.min_score,
            "true_boxes": None if tallies is None else as_json(tallies),
        },
    )
    return Summary(counts[0], broken, counts[1], counts[2], file, tallies)
