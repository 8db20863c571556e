"""The model card of a trained branch: what it is, what it was trained on, what it earns, where it ends."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dualcam.checkpoint import fingerprint, load, read_manifest
from dualcam.description import LAWS
from dualcam.errors import CheckpointError
from dualcam.files import write_whole
from dualcam.model import DualBranch

NAME = "README.md"
CONVENTIONAL = ("seed", "solver", "start", "balance", "labels", "lr", "epochs", "batch_size", "weight_decay", "anchor")
UNUSUAL = {"frozen_mode": "eval", "precision": "32-true"}
"""Settings that stand in the card where they are not as usual."""
STARTS = {
    "clone": "A copy of the classification head",
    "centered": "A copy of the classification head, less the mean of its rows",
    "random": "A head like the classification head, from a random start",
}
ARROWS = {"higher": " ↑", "lower": " ↓"}
LIMITS = """\
- The branch explains the classes it was trained on, from photos like those it saw; elsewhere its zero means less.
- Maps are as fine as the tapped layer's grid. A box surrounds the evidence, which may be a part of the object.
- Evidence is what this classifier uses, right or wrong. A map says nothing about whether the prediction is true.
- The softmax branch classifies; the sigmoid branch's scores are evidence, not calibrated probabilities."""


def write_card(folder: Path, evaluation: Path | None = None, *, model: DualBranch | None = None) -> Path:
    """Write the card of the checkpoint in ``folder`` and return its path.

    ``evaluation`` is a folder that `dualcam evaluate` wrote for this checkpoint; its figures then stand in the card.
    ``model`` is the checkpoint, loaded (default: it is loaded to compare fingerprints). Raises `CheckpointError`
    where either folder is not what it should be, or the evaluation is of another model.
    """
    manifest = read_manifest(folder)
    results = None
    if evaluation is not None:
        results = _read_results(evaluation, fingerprint(model or load(folder)))
    with write_whole(folder / NAME) as temporary:
        temporary.write_text(make_card(manifest, results), encoding="utf-8")
    return folder / NAME


def make_card(manifest: dict[str, Any], results: dict[str, Any] | None = None) -> str:
    """Return the card in Markdown, from ``dualcam.json`` and, if measured, ``results.json``."""
    training, head = manifest["training"] or {}, manifest["head"]
    source = manifest["source"] or "a classifier in memory"
    parts = [
        f"# Sigmoid branch of {source}",
        f"{STARTS[training.get('settings', {}).get('start', 'clone')]}, trained with class-balanced binary "
        "cross-entropy while everything else was frozen. The softmax branch goes on classifying; this branch explains, "
        "in logits: above zero speaks for a class, below zero against it.",
        _table(
            ("", ""),
            [
                ("classifier", f"{source}, fingerprint `{manifest['backbone']}`"),
                ("head", f"{head['kind']}, {head['classes']} classes{', fitted' if head['fitted'] else ''}"),
                ("what holds", LAWS[head["kind"]]),
                ("activations", f"{manifest['anatomy']['layer']}"),
                ("input", _input(manifest["preprocessing"])),
                ("made with", ", ".join(f"{name} {version}" for name, version in manifest["versions"].items())),
            ],
        ),
        "## Training",
        _training(training),
        "## Accuracy",
        _accuracy(manifest, training, results),
        "## Localization and fidelity",
        _figures(results)
        if results
        else "Not measured yet: `dualcam evaluate DATA --model DIR -o EVALUATION`, then "
        "`dualcam card DIR --evaluation EVALUATION`.",
        "## Limits",
        LIMITS,
    ]
    return "\n\n".join(parts) + "\n"


def _read_results(evaluation: Path, ours: str) -> dict[str, Any]:
    file = evaluation / "results.json"
    try:
        results: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        theirs = str(results["model"]["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{file} is no result of `dualcam evaluate` ({error!r})") from error
    if theirs != ours:
        raise CheckpointError(
            f"{file} was measured with another model (fingerprint {theirs[:8]}, this checkpoint's is {ours[:8]}); "
            "evaluate this checkpoint"
        )
    return results


def _input(preprocessing: dict[str, Any]) -> str:
    height, width = preprocessing["size"]
    return f"{height} x {width} px, mean {preprocessing['mean']}, deviation {preprocessing['std']}"


def _training(training: dict[str, Any]) -> str:
    if not training:
        return "Not trained: the branch is a clone of the softmax head."
    data, settings = training.get("data", {}), training.get("settings", {})
    rows = [("run", training.get("summary", "")), ("data", f"{data.get('name')}, split {data.get('split')}")]
    rows += [(name, settings[name]) for name in CONVENTIONAL if settings.get(name) is not None]
    rows += [(name, settings[name]) for name, usual in UNUSUAL.items() if settings.get(name, usual) != usual]
    broken = training.get("broken_photos") or {}
    if broken:
        rows.append(("photos left out", f"{len(broken)} that could not be read"))
    if "seconds" in training:
        rows.append(("time", f"{training['seconds']} s"))
    return _table(("", ""), rows)


def _accuracy(manifest: dict[str, Any], training: dict[str, Any], results: dict[str, Any] | None) -> str:
    before, after = training.get("backbone_before"), manifest["backbone"]
    last = training.get("last_epoch") or {}
    lines = []
    if before is not None:
        same = "equal" if before == after else f"NOT EQUAL: `{before}` before"
        lines.append(f"The classifier's fingerprint before and after training is {same}, so it classifies as before.")
    if last.get("val_softmax_top1") is not None:
        lines.append(
            f"On the held-out photos the softmax branch has Top-1 {100 * last['val_softmax_top1']:.1f} %, before as "
            f"after; the sigmoid branch's own argmax would have {100 * last['val_branch_top1']:.1f} %."
        )
    ours, theirs = last.get("val_branch_map"), last.get("val_softmax_map")
    if ours is not None and theirs is not None:
        own = "classifier's own" if manifest["head"].get("outputs") == "sigmoid" else "softmax"
        lines.append(
            "Photos have several labels; a first choice is right where it is one of them. Mean average precision (how "
            "well a class's logits put the photos that have it first, the mean over the classes of the held-out "
            f"photos): {own} branch {100 * theirs:.1f} %, sigmoid branch {100 * ours:.1f} %."
        )
    top1 = (results or {}).get("top1")
    if top1:
        lines.append(
            f"On the {top1['n']} photos of the evaluation below its Top-1 is {top1['mean']:.1f} % "
            f"[{top1['low']:.1f}, {top1['high']:.1f}]."
        )
    return " ".join(lines) or "No photos were held out, so no accuracy was measured in training."


def _figures(results: dict[str, Any]) -> str:
    cells = results["cells"]
    made = {cell["normalize"] for cell in cells}
    kept = {"max"} & made or made  # one normalization where there is a choice: they differ less than branches
    shown = [cell for cell in cells if cell["normalize"] in kept or str(_name(cell)) == results["baseline"]]
    metrics = list(dict.fromkeys(name for cell in shown for name in cell["metrics"]))
    rows: list[tuple[object, ...]] = []
    for cell in shown:
        values = [_value(cell["metrics"].get(name)) for name in metrics]
        rows.append((cell["branch"], cell["method"], cell["sign"], cell["normalize"], *values))
    unseeing = {"centre box": results.get("center_box") or {}, **(results.get("trivial") or {})}
    for name, figures in unseeing.items():
        if figures:
            rows.append((name, "", "", "", *(f"{figures[m]['mean']:.1f}" if m in figures else "" for m in metrics)))
    better = results.get("better") or {}
    heads = [f"{name}{ARROWS.get(better.get(name, ''), '')}" for name in metrics]
    notes = (
        f"n = {results['n']}; `{results['command']}`; {results['selection']}. In brackets: difference to the same cell "
        "of the softmax branch with its 95 % paired bootstrap interval. ↑ higher is better, ↓ lower. The last rows "
        "look at no photo."
    )
    return _table(("branch", "method", "sign", "normalize", *heads), rows) + "\n\n" + notes


def _name(cell: dict[str, Any]) -> str:
    return f"{cell['branch']} {cell['method']} {cell['sign']} {cell['normalize']}"


def _value(figure: dict[str, Any] | None) -> str:
    if figure is None:
        return ""
    text, gap = f"{figure['value']['mean']:.1f}", figure["over_softmax"]
    return text if gap is None else f"{text} ({gap['mean']:+.1f} [{gap['low']:+.1f}, {gap['high']:+.1f}])"


def _table(header: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in lines)
