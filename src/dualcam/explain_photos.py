"""A run over many photos: explain, draw, write down; memory does not grow with their number."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from rich.progress import Progress

from dualcam.compose import Plan, make_sheets
from dualcam.data.prepared import Prepared
from dualcam.data.stream import Broken, Loader, stream
from dualcam.model import DualBranch
from dualcam.panel import draw_panel, write_panel
from dualcam.results import DRAFTS, Results
from dualcam.sheet import Sheet, load_sheet, save_sheet


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a run works with. ``shared_scale``: panels wait until the largest values of all photos are known."""

    model: DualBranch
    plan: Plan
    loader: Loader
    results: Results
    shared_scale: bool = False
    batch_size: int = 16
    workers: int = 2


def explain_photos(run: Run, photos: Sequence[str], progress: Progress) -> int:
    """Explain ``photos`` and return how many are broken; call it inside ``with run.results``.

    Photos that have results are passed over; those that had errors are tried again. Under a shared scale the sheets
    of all photos wait on disk, and panels are drawn at the end; if the scale changed, earlier ones are drawn again.
    """
    results, broken = run.results, 0
    names = {photo: results.name_of(photo) for photo in photos}
    results.forget_errors(names.values())
    todo = [photo for photo in photos if not _is_known(run, names[photo])]
    task = progress.add_task("explaining", total=len(photos), completed=len(photos) - len(todo))
    for batch in stream(todo, run.loader, batch_size=run.batch_size, workers=run.workers):
        for photo, outcome in _explain(run, batch):
            if isinstance(outcome, Broken):
                broken += 1
                _note(results, names[photo], outcome)
                progress.console.print(f"skipped: {outcome.error}", markup=False, highlight=False, soft_wrap=True)
            elif run.shared_scale:
                save_sheet(replace(outcome, photo=names[photo]), results.draft_of(names[photo]))
            else:
                _finish(results, replace(outcome, photo=names[photo]))
            progress.advance(task)
    if run.shared_scale:
        _draw_to_scale(results, progress)
    return broken


def _is_known(run: Run, name: str) -> bool:
    return run.results.draft_of(name).exists() if run.shared_scale else run.results.is_done(name)


def _explain(run: Run, batch: Sequence[Prepared | Broken]) -> Iterator[tuple[str, Sheet | Broken]]:
    """Yield what became of each photo of ``batch``, in order, by one run of the model."""
    ready = [item for item in batch if isinstance(item, Prepared)]
    sheets = iter(make_sheets(run.model, ready, run.plan) if ready else [])
    for item in batch:
        if isinstance(item, Broken):
            yield item.photo, item
            continue
        photo = item.source or ""
        error = f"{photo}: the model's scores or activations are not finite numbers"
        yield photo, next(sheets) or Broken(photo, error, item.placement.source)


def _note(results: Results, name: str, broken: Broken) -> None:
    """Write down a photo that can not be explained."""
    width, height = broken.size or (None, None)
    results.add({"photo": name, "error": broken.error, "width": width, "height": height, "panel": None, "classes": []})


def _finish(results: Results, sheet: Sheet, scale: Mapping[str, float] | None = None) -> None:
    """Draw a panel, then write its line: a line says that all of the photo is there."""
    panel = results.panel_of(sheet.photo)
    write_panel(draw_panel(sheet, scale), results.folder / panel)
    width, height = sheet.placement.source
    results.add(
        {
            "photo": sheet.photo,
            "error": None,
            "width": width,
            "height": height,
            "panel": panel,
            "classes": list(sheet.classes),
        }
    )


def _draw_to_scale(results: Results, progress: Progress) -> None:
    """Draw the panels of all sheets in the folder to one scale, those of earlier runs among them."""
    drafts = sorted((results.folder / DRAFTS).glob("*.npz"))
    scale: dict[str, float] = {}
    for draft in progress.track(drafts, description="measuring"):
        for key, peak in load_sheet(draft).peaks().items():
            scale[key] = max(peak, scale.get(key, 0.0))
    if scale != results.run["scale"]:
        results.forget_panels(scale)
    for draft in progress.track(drafts, description="drawing"):
        sheet = load_sheet(draft)
        if not results.is_done(sheet.photo):
            _finish(results, sheet, scale)
