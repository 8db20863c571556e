"""`dualcam card`: the model card of a trained branch."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def card(
    model: Annotated[Path, Parameter(help="A directory that `dualcam train` wrote.")],
    /,
    *,
    evaluation: Annotated[Path | None, Parameter(help="What `dualcam evaluate` wrote for it, to stand in it.")] = None,
) -> int:
    """Write the model card of a trained branch, README.md in its directory: data, settings, accuracy, figures, limits.

    Training writes one; this adds what was measured since.
    """
    from dualcam.card import write_card

    print(write_card(model, evaluation))
    return 0


COMMAND = card
