"""A diagnosis on disk: diagnosis.json, figure1.png and index.html; docs/diagnose.md describes them."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from os import PathLike
from pathlib import Path
from typing import Any

from dualcam.checkpoint import fingerprint, versions
from dualcam.diagnose.baselines import PLAIN, SHIFTED
from dualcam.diagnose.figure import draw_figure, make_rows
from dualcam.diagnose.findings import Diagnosis, Findings
from dualcam.diagnose.inputs import Inputs
from dualcam.diagnose.sentences import (
    baseline_words,
    collapse_words,
    percent,
    recovery_words,
    shift_words,
    sigmoid_words,
    spread,
    tiny,
    verdict,
)
from dualcam.files import write_json
from dualcam.model import DualBranch
from dualcam.page import Section, write_page
from dualcam.panel import write_panel

SCHEMA = 1
JSON, FIGURE, PAGE = "diagnosis.json", "figure1.png", "index.html"


def write_report(
    out: str | PathLike[str],
    model: DualBranch,
    findings: Findings,
    inputs: Inputs,
    *,
    name: str | None = None,
    command: str = "from Python",
) -> list[Path]:
    """Write the three files, each whole or not at all; return their paths.

    ``findings`` are what `dualcam.diagnose.run.diagnose` made of ``model`` and ``inputs``; ``name`` is the model's in
    headings (default: its source, or its class), ``command`` how the files were made.
    """
    folder, diagnosis = Path(out), findings.diagnosis
    name = name or model.source or type(model.classifier).__name__
    about = describe_run(model, findings, inputs, name, command)
    write_json(folder / JSON, as_json(diagnosis, about))
    write_panel(draw_figure(make_rows(model, findings), findings, name), folder / FIGURE)
    write_page(folder / PAGE, f"{name}: what softmax left undecided", make_sections(findings, about))
    return [folder / JSON, folder / FIGURE, folder / PAGE]


def describe_run(model: DualBranch, findings: Findings, inputs: Inputs, name: str, command: str) -> dict[str, Any]:
    """Return what the files say about the run."""
    return {
        "command": command,
        "model": {
            "name": name,
            "source": model.source,
            "head": model.softmax_head.kind,
            "layer": model.anatomy.layer,
            "nonnegative": model.anatomy.nonnegative,
            "fingerprint": fingerprint(model),
            "training": (model.training_record or {}).get("summary"),
        },
        "settings": asdict(findings.settings),
        "labels": inputs.told,
        "found": inputs.found,
        "broken": findings.observed.broken,
        "versions": versions(),
    }


def as_json(diagnosis: Diagnosis, about: dict[str, Any]) -> dict[str, Any]:
    """Return everything as JSON values; what is not a number is null."""
    content = {"schema": SCHEMA, "verdict": verdict(diagnosis), **about, **asdict(diagnosis)}
    cleaned: dict[str, Any] = _cleaned(content)
    return cleaned


def make_sections(findings: Findings, about: dict[str, Any]) -> list[Section]:
    """Return the page: the verdict first, the figure, then each question with its table."""
    diagnosis = findings.diagnosis
    caption = (
        "The same classifier as far as its probabilities go. Shifted: of the shifts drawn, the one that changes this "
        "photo's map most and leaves something. Collapsed: the smallest shift after which no cell of this photo's map "
        "is positive."
    )
    sections = [
        Section(verdict(diagnosis), _how(diagnosis, about), [(FIGURE, caption)], _head_table(diagnosis)),
        Section("What a shift does", shift_words(diagnosis), table=_shift_table(diagnosis)),
        Section("What it takes to empty a map", collapse_words(diagnosis), table=_collapse_table(diagnosis)),
        Section("Does the sigmoid branch feel a shift?", sigmoid_words(diagnosis), table=_sigmoid_table(diagnosis)),
        Section("Does training undo a shift?", recovery_words(diagnosis), table=_recovery_table(diagnosis)),
        Section("Was training needed?", baseline_words(diagnosis), table=_score_table(diagnosis)),
    ]
    if diagnosis.localization is not None:
        sections.append(_localization_section(diagnosis, findings.settings.threshold))
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    sections.append(Section("How this was made", f"{about['command']}. {versions}. {JSON} has every number.", ()))
    return sections


def _how(diagnosis: Diagnosis, about: dict[str, Any]) -> str:
    note = "" if diagnosis.photos >= 20 else " So few photos say little about others; give a folder for a measurement."
    right = "" if diagnosis.accuracy is None else f", on {percent(diagnosis.accuracy.mean)} the label's"
    shared = "what they share can be taken away, or be anything else. So what their mean draws into a map is arbitrary"
    if diagnosis.mean_row is not None:
        shared = (
            "a class's row is its weights in the last layer, and what all rows share can be taken away, or be anything "
            "else, without a change of any probability. So what the mean row draws into a map is arbitrary"
        )
    return (
        f"{diagnosis.photos} photos, {about['labels']}; maps by {diagnosis.method} of the class that softmax predicts"
        f"{right}. Softmax sees how logits differ, not what is common to all: {shared}; its share of the energy is its "
        "sum of squares over that and the rest's. Figures are means over photos with 95 % bootstrap intervals."
        f"{note}"
    )


def _head_table(diagnosis: Diagnosis) -> list[Sequence[str]]:
    """Return this head beside heads with a planted offset."""
    header, energy = ["", "this model"], ["energy of the maps that is arbitrary, %", spread(diagnosis.arbitrary)]
    alike = ["rank correlation with this model's maps", "1"]
    for each in diagnosis.shifts or ():
        header.append(f"with a planted offset of {percent(each.size)} of a row")
        energy.append(spread(each.arbitrary))
        alike.append(spread(each.agreement.rank, share=False))
    return [header, energy, alike] if diagnosis.shifts else [header, energy]


def _shift_table(diagnosis: Diagnosis) -> list[Sequence[str]]:
    if diagnosis.shifts is None:
        return []
    header = [
        "shift, of a row's norm",
        "largest change of a probability",
        "mean change of all logits",
        "rank correlation of the maps",
        "box IoU, signed %",
        "box IoU, positive %",
        "arbitrary energy %",
        "evidence against %",
    ]
    rows = [
        (
            percent(each.size),
            tiny(each.probability_change),
            f"{each.logit_change.mean:.2f}",
            spread(each.agreement.rank, share=False),
            spread(each.agreement.box_signed),
            spread(each.agreement.box_positive),
            spread(each.arbitrary),
            spread(each.negative),
        )
        for each in diagnosis.shifts
    ]
    return [header, *rows]


def _collapse_table(diagnosis: Diagnosis) -> list[Sequence[str]]:
    found = diagnosis.collapse
    if found is None:
        return []
    rows: list[Sequence[str]] = [
        ("the smallest shift that empties the map of the predicted class", "of its row's norm, %"),
        ("on every photo", spread(found.any_photo)),
        (
            f"on every photo, over all {found.classes} classes: mean, and least",
            f"{100 * found.classes_mean:.1f}, {100 * found.classes_least:.1f}",
        ),
    ]
    if found.channels is not None:
        rows.append(("on this photo: no positive weight on an active channel", spread(found.channels)))
    if found.cells is not None:
        rows.append(("on this photo: no cell of the signed map above zero", spread(found.cells)))
    rows.append(("what is left of the map, run with each of these shifts", percent(found.map_left)))
    rows.append(("largest change of a probability", tiny(found.probability_change)))
    return rows


def _sigmoid_table(diagnosis: Diagnosis) -> list[Sequence[str]]:
    header = ("shift, of a row's norm", "mean change of a probability, %", "of all logits", "answers that change, %")
    rows = [
        (percent(each.size), spread(each.probability_change), f"{each.logit_change.mean:.2f}", spread(each.flipped))
        for each in diagnosis.sigmoid_shifts or ()
    ]
    return [header, *rows] if rows else []


def _recovery_table(diagnosis: Diagnosis) -> list[Sequence[str]]:
    found = diagnosis.recovery
    if found is None:
        return []
    names = {"sgd": f"SGD, {found.epochs} epochs", "lbfgs": "L-BFGS, to the optimum"}
    starts = {"random": "random rows"}
    rows = [
        (
            names[each.solver],
            starts.get(each.start, each.start),
            percent(each.scores),
            percent(each.inside),
            "everything is spanned" if each.outside is None else percent(each.outside),
        )
        for each in found.left
    ]
    header = (
        "sigmoid branch trained again by",
        "from",
        "left of the scores' change",
        "left inside of the span",
        "outside",
    )
    kept = (percent(found.cross_entropy_kept),) * 2
    cross = (f"cross-entropy, SGD, {found.epochs} epochs", "shifted", *kept, percent(found.cross_entropy_kept))
    return [header, *rows, cross]


def _score_table(diagnosis: Diagnosis) -> list[Sequence[str]]:
    """Return each score beside plain CAM, before and after a shift, and beside the sigmoid branch."""
    rank = {(each.first, each.second): each.agreement for each in diagnosis.comparisons}
    rank |= {(second, first): agreement for (first, second), agreement in rank.items()}
    names = list(dict.fromkeys(name for each in diagnosis.comparisons for name in (each.first, each.second)))
    others = [name for name in (PLAIN, SHIFTED, "centered", "log-odds", "sigmoid branch") if name in names]
    rows = [
        (
            name,
            *(spread(rank[name, other].rank, share=False) if other != name else "1" for other in others),
            spread(rank[name, PLAIN].box_signed) if name != PLAIN else "100",
        )
        for name in names
    ]
    header = ("rank correlation of", *(f"with {name}" for name in others), "box IoU with softmax, %")
    return [header, *rows]


def _localization_section(diagnosis: Diagnosis, threshold: float) -> Section:
    found = diagnosis.localization or ()
    n = found[0].signed.n if found else 0
    text = (
        f"Maps of the true class against true boxes, n = {n}: the largest component above {threshold:g} of "
        "the maximum reaches IoU 0.5. The threshold is fixed beforehand; dualcam evaluate has the whole benchmark."
    )
    rows = [(each.score, spread(each.signed), spread(each.positive)) for each in found]
    return Section("Localization", text, table=[("GT-known Loc, %", "signed, min-max", "positive, max"), *rows])


def _cleaned(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _cleaned(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_cleaned(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
