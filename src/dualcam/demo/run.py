"""The demo from end to end."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from dualcam.cli.explain import EvidenceOptions, WorkOptions, explain
from dualcam.cli.options import FastModelOptions
from dualcam.demo import compare, digits
from dualcam.demo.photos import photo_paths
from dualcam.model import DualBranch
from dualcam.page import Section, write_page
from dualcam.progress import console, progress_bar
from dualcam.training.fit import fit
from dualcam.training.report import TerminalReporter

EXAMPLES = 4


def run_demo(out: Path, *, pictures: int = 200, per_digit: int = 80) -> Path:
    """Explain the photos, train and measure on the digits, write ``out``/index.html; return its path.

    Only what an earlier demo wrote in ``out`` is replaced. ``pictures`` is the number of two-digit test pictures,
    ``per_digit`` that of training pictures of each digit.
    """
    photos = explain_real_photos(out / "photos")
    model, rows, examples = digits_run(out / "digits", pictures, per_digit)
    accuracy = model.training_record["last_epoch"]["val_softmax_top1"] if model.training_record else None
    console.print(compare.table(rows))
    text = (
        "Handwritten digits at known places on brick, grass and gravel. A linear head is fitted on pictures of one "
        f"digit, knowing only which digit it is (validation Top-1 {accuracy:.2f}); then its sigmoid branch is "
        "trained. On new pictures of two digits, the map of the asked digit should find that digit, and not the other."
    )
    sections = [
        Section(
            "Real photos, default model",
            "Softmax CAM, the sigmoid branch's evidence for the class with its box, and its signed evidence in logits.",
            photos,
        ),
        Section("A whole run of the product", text, examples, [compare.HEADER, *compare.cells(rows)]),
    ]
    page = out / "index.html"
    write_page(page, "dualcam demo", sections)
    return page


def explain_real_photos(out: Path) -> list[tuple[str, str]]:
    """Run `dualcam explain` on the photos; return (picture relative to the page, caption) pairs."""
    paths = [str(path) for path in photo_paths()]
    explain(*paths, out=out, evidence=EvidenceOptions(classes=("top2",)), work=WorkOptions(overwrite=True))
    return [(f"{out.name}/{panel}", Path(photo).name) for photo, panel in panels_of(out)]


def digits_run(out: Path, pictures: int, per_digit: int) -> tuple[DualBranch, list[compare.Row], list[tuple[str, str]]]:
    """Write the data, fit head and branch as `dualcam train` does, compare the branches, explain some pictures."""
    shutil.rmtree(out / "train", ignore_errors=True)
    digits.write_training_folder(out / "train", per_digit)
    checkpoint = out / "branch"
    model = fit(
        None,
        out / "train",
        checkpoint,
        fit_head="linear",
        augment="none",
        cache_dir=out / "features",
        overwrite=True,
        reporter=TerminalReporter(),
    )
    shutil.rmtree(out / "features", ignore_errors=True)
    composites = list(digits.test_composites(pictures))
    with progress_bar() as progress:
        task = progress.add_task("comparing the branches", total=len(composites))
        rows = compare.compare(model, composites, lambda count: progress.advance(task, count))
    return model, rows, explain_examples(out, checkpoint, composites[:EXAMPLES])


def explain_examples(out: Path, checkpoint: Path, composites: Sequence[digits.Composite]) -> list[tuple[str, str]]:
    """Explain some two-digit pictures for both of their digits."""
    found = []
    for number, composite in enumerate(composites, start=1):
        asked = tuple(f"digit {digit}" for digit in composite.digits)
        home = out / f"example-{number}"
        picture = home / "picture.png"
        home.mkdir(parents=True, exist_ok=True)
        composite.image.save(picture)
        explain(
            str(picture),
            out=home / "explained",
            model=FastModelOptions(model=str(checkpoint)),
            evidence=EvidenceOptions(classes=asked, sign="signed", threshold=compare.THRESHOLD),
            work=WorkOptions(overwrite=True, workers=0),
        )
        panel = panels_of(home / "explained")[0][1]
        found.append((f"{out.name}/{home.name}/explained/{panel}", f"asked for {' and for '.join(asked)}"))
    return found


def panels_of(folder: Path) -> list[tuple[str, str]]:
    """Return (photo, panel) of every explained photo in results.jsonl."""
    lines = (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    return [(record["photo"], record["panel"]) for record in records if record["panel"]]
