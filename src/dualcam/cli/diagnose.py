"""`dualcam diagnose`: what softmax left undecided in a classifier, and what that does to its heat maps."""

import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from dualcam.cli.options import ModelOptions, open_model
from dualcam.diagnose.settings import DiagnoseSettings

ABOVE = 3
"""The exit code of --fail-above."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class PhotoOptions:
    """Which photos."""

    sample: int = 100
    """Photos that are looked at, drawn by seed; at most 1000."""

    split: str | None = None
    """Split of the dataset (default: test, else val, else train)."""

    max_megapixels: float = 64.0
    """Larger photos are reported as broken."""

    workers: int = 2
    """Threads that load photos."""


def diagnose(
    *what: Annotated[
        str, Parameter(help="A model as for --model, then photos, folders, globs or one dataset; each can be left out.")
    ],
    out: Annotated[
        Path, Parameter(name=["--out", "-o"], help="Folder for index.html, figure1.png and diagnosis.json.")
    ] = Path("diagnosis"),
    model: ModelOptions = ModelOptions(),  # noqa: B008  - frozen
    settings: Annotated[DiagnoseSettings, Parameter(name="*", negative="", consume_multiple=True)] = DiagnoseSettings(),  # noqa: B008
    photos: PhotoOptions = PhotoOptions(),
    fail_above: Annotated[
        float | None,
        Parameter(help="Exit with code 3 if more than this share [0, 1] of the maps' energy is arbitrary."),
    ] = None,
) -> int:
    """Say how much of a classifier's heat maps is arbitrary, show it, and measure what training mends.

    `dualcam diagnose [MODEL] [PHOTOS]`: without a model the one that is installed, without photos the demo's.
    """
    from dualcam.data.stream import check_work
    from dualcam.diagnose.inputs import open_inputs
    from dualcam.diagnose.report import write_report
    from dualcam.diagnose.run import diagnose as run
    from dualcam.diagnose.sentences import shift_words, verdict
    from dualcam.errors import ChoiceError, DataError
    from dualcam.progress import progress_bar

    if fail_above is not None and not 0 <= fail_above <= 1:
        raise ChoiceError(f"--fail-above is a share in [0, 1]; got {fail_above:g}")
    check_work(1, photos.workers)
    options, given = split_model(model, what)
    wrapped = open_model(options)
    inputs = open_inputs(wrapped, given, split=photos.split, sample=photos.sample, seed=settings.seed, skip=out)
    with progress_bar() as progress:
        findings = run(
            wrapped, inputs, settings, progress, max_megapixels=photos.max_megapixels, workers=photos.workers
        )
    broken = findings.observed.broken
    command = shlex.join(["dualcam", *sys.argv[1:]])
    try:
        files = write_report(out, wrapped, findings, inputs, name=options.model, command=command)
    except OSError as error:
        raise DataError(f"the report can not be written: {error}; choose another folder (-o)") from error
    for photo, error_text in list(broken.items())[:10]:
        print(f"broken: {error_text if photo in error_text else f'{photo}: {error_text}'}", file=sys.stderr)
    print(verdict(findings.diagnosis))
    print(shift_words(findings.diagnosis))
    print(f"{findings.diagnosis.photos} of {inputs.found} photos, {inputs.told}: {', '.join(map(str, files))}")
    share = findings.diagnosis.arbitrary.mean
    if fail_above is not None and share > fail_above:
        print(f"above the limit: {share:.4f} of the energy is arbitrary, --fail-above {fail_above:g}", file=sys.stderr)
        return ABOVE
    return 1 if broken else 0


def split_model(options: ModelOptions, what: tuple[str, ...]) -> tuple[ModelOptions, tuple[str, ...]]:
    """Return the options with the model that the first of ``what`` names, if it names one, and the rest: photos.

    A model is ``prefix:name``, or a directory that `dualcam train` wrote; after --model all of ``what`` are photos.
    """
    if not what or options.model is not None:
        return options, what
    from dualcam.checkpoint import MANIFEST
    from dualcam.sources import prefixes

    first = Path(what[0]).expanduser()
    prefix, colon, _ = what[0].partition(":")
    named = bool(colon) and prefix in prefixes() and not first.exists()
    run = first.is_dir() and ((first / MANIFEST).is_file() or (first / "state" / "state.json").is_file())
    return (replace(options, model=what[0]), what[1:]) if named or run else (options, what)


COMMAND = diagnose
