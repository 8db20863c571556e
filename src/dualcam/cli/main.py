"""The entry point: parse, run, and turn errors into messages and exit codes.

Exit codes: 0 done; 1 done, but some inputs were broken and reported; 2 a user's mistake (no traceback); 3 a limit
that the user set is passed (``diagnose --fail-above``); 130 interrupted.
Settings come from ``--config FILE.yaml`` (or ``dualcam.yaml`` in the current folder), then the environment
(``DUALCAM_EXPLAIN_MODEL`` for ``dualcam explain --model``), then flags; the later wins.
"""

import errno
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter
from cyclopts.config import Env, Yaml

from dualcam import __version__
from dualcam.cli import (
    ablate,
    annotate,
    card,
    data,
    demo,
    describe,
    diagnose,
    evaluate,
    explain,
    figure,
    reproduce,
    train,
    train_classifier,
)
from dualcam.cli.runtime import tune_process
from dualcam.errors import DualcamError

app = App(
    name="dualcam",
    help="Signed, truthful evidence maps for any image classifier.",
    version=__version__,
    help_epilogue="Settings: --config FILE.yaml or ./dualcam.yaml, then DUALCAM_* variables, then flags.",
)
app.suppress_keyboard_interrupt = app.meta.suppress_keyboard_interrupt = False  # `run` answers it, with the way on
for module in (
    *(demo, explain, annotate, train_classifier, train, evaluate, ablate),
    *(figure, diagnose, reproduce, describe, card, data),
):
    app.command(module.COMMAND)


@app.meta.default
def launch(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    config: Annotated[Path | None, Parameter(help="A YAML file with settings, by command.")] = None,
) -> int:
    """Read the configuration, then run the command."""
    file = Yaml(config or "dualcam.yaml", must_exist=config is not None)
    app.config = (Env("DUALCAM_"), file)
    result = app(tokens, exit_on_error=False, print_error=True, result_action="return_value")
    return result if isinstance(result, int) else 0


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    try:
        code = app.meta(arguments, exit_on_error=False, print_error=True, result_action="return_value")
    except CycloptsError:
        return 2
    except DualcamError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {told(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on where it stopped", file=sys.stderr)
        return 130
    return code if isinstance(code, int) else 0


def told(error: OSError) -> str:
    """Return what the file system refused, and the way out where it is another place."""
    if error.filename is None or error.strerror is None:
        return str(error)
    elsewhere = {*(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT), *(errno.ENOTDIR, errno.EEXIST)}
    way_out = "; choose another folder, or change that" if error.errno in elsewhere else ""
    return f"{error.filename}: {error.strerror}{way_out}"


def main() -> None:
    """Run as a program."""
    tune_process()
    sys.exit(run())
