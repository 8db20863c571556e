"""`dualcam data check`: everything that is wrong with a dataset, before hours are spent on it."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

from cyclopts import App, Parameter

if TYPE_CHECKING:
    from rich.table import Table

    from dualcam.data.check import Check, Problem

EXAMPLES = 3
Key = tuple[str, str, bool]
COMMAND = App(name="data", help="Look at datasets.")


@COMMAND.command
def check(
    path: Annotated[Path, Parameter(help="A dataset; docs/datasets.md lists the layouts.")],
    /,
    *,
    photos: Annotated[
        bool, Parameter(help="Read every photo and mask; --no-photos only looks whether they are there.")
    ] = True,
    json: Annotated[Path | None, Parameter(help="File for all that is found.", negative="")] = None,
    workers: Annotated[int, Parameter(help="Threads that read photos.")] = 2,
    max_megapixels: Annotated[float, Parameter(help="Larger photos count as unreadable.")] = 64.0,
) -> int:
    """Read all splits and say what is missing, mislabelled, out of bounds, duplicated or unreadable.

    Exit code 0: nothing but notes; 1: problems; 2: no dataset there.
    """
    from rich.console import Console

    from dualcam.data.check import Check
    from dualcam.progress import progress_bar

    work = Check(path, open_photos=photos, workers=workers, max_megapixels=max_megapixels)
    counts: Counter[Key] = Counter()
    examples: dict[Key, list[str]] = {}
    with progress_bar() as progress:
        found = _tally(work.problems(progress), counts, examples)
        if json is None:
            for _ in found:
                pass
        else:
            _write(json, work, found, counts)
    console = Console(width=None if sys.stdout.isatty() else 160)
    if counts:
        console.print(_table(counts, examples))
    problems = sum(count for (_, _, note), count in counts.items() if not note)
    layout = work.layout.__name__.rpartition(".")[2]
    splits = ", ".join(f"{name} {count}" for name, count in work.photos.items()) or "none that can be read"
    verdict = f"{problems} problems" if problems else "clean" + (" but for the notes" if counts else "")
    print(f"{path}: layout {layout}; photos by split: {splits}; {verdict}")
    return 1 if problems else 0


def _tally(
    problems: Iterator["Problem"], counts: "Counter[Key]", examples: dict[Key, list[str]]
) -> Iterator["Problem"]:
    for problem in problems:
        key = (problem.split, problem.kind, problem.note)
        counts[key] += 1
        shown = examples.setdefault(key, [])
        if len(shown) < EXAMPLES:
            shown.append(": ".join(filter(None, (problem.photo, problem.detail))))
        yield problem


def _table(counts: "Counter[Key]", examples: dict[Key, list[str]]) -> "Table":
    from rich.markup import escape
    from rich.table import Table

    table = Table("split", "what", "count", "examples")
    for (split, kind, note), count in counts.items():
        what = f"{kind} (note)" if note else f"[bold]{kind}[/bold]"
        table.add_row(escape(split), what, str(count), escape("\n".join(examples[split, kind, note])))
    return table


def _write(file: Path, work: "Check", problems: Iterator["Problem"], counts: "Counter[Key]") -> None:
    """Write the problems as they come, then the counts, as one JSON object, whole or not at all."""
    from dualcam.errors import DataError
    from dualcam.files import write_whole

    try:
        with write_whole(file) as temporary, temporary.open("w", encoding="utf-8") as stream:
            _write_object(stream, work, problems, counts)
    except OSError as error:
        raise DataError(f"{file} can not be written: {error.strerror or error}; choose another --json FILE") from error


def _write_object(stream: TextIO, work: "Check", problems: Iterator["Problem"], counts: "Counter[Key]") -> None:
    separator = ""
    stream.write('{"problems": [')
    for problem in problems:
        stream.write(f"{separator}\n{json.dumps(asdict(problem))}")
        separator = ","
    rows = [
        {"split": split, "kind": kind, "note": note, "count": count} for (split, kind, note), count in counts.items()
    ]
    rest = json.dumps({"data": str(work.root), "photos": work.photos, "counts": rows}, indent=1)
    stream.write(f"],\n{rest[1:]}\n")
