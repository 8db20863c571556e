"""The options of `dualcam evaluate --fidelity`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from dualcam.errors import ChoiceError
from dualcam.metrics.fidelity_settings import Baseline, FidelitySettings, Space

if TYPE_CHECKING:
    from dualcam.evaluation.fidelity import Fidelity


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class FidelityOptions:
    """Whether maps show what the classifier uses."""

    fidelity: Annotated[tuple[str, ...] | None, Parameter(consume_multiple=True, negative="")] = None
    """Measure fidelity too, also without boxes or masks. Alone: the metrics of at most one modified photo a map; or
    names of metrics, after DATA; or all."""

    explain: Literal["predicted", "true"] = "predicted"
    """The class whose maps fidelity judges; localization judges the true one's."""

    scored_by: Literal["softmax", "sigmoid"] = "softmax"
    """The branch whose probability is read, for all maps alike."""

    space: Space = "pixels"
    """Where photos are modified: RGB in [0, 1], or normalized input, as most published figures have it."""

    steps: int = 20
    """Steps of insertion and deletion."""

    baseline: Baseline | None = None
    """What stands for removed pixels in insertion and deletion (default: blur and mean)."""

    sample: int | None = None
    """Measure fidelity on so many photos, drawn by --seed (default: all; 50 for metrics that are not cheap)."""


def open_fidelity(options: FidelityOptions, seed: int, *, truth: bool) -> "Fidelity | None":
    """Return what is to be measured, or None; ``truth``: whether the data have boxes or masks. Raises `ChoiceError`."""
    if options.fidelity is None:
        if options != FidelityOptions():
            raise ChoiceError("--explain, --scored-by, --space, --steps, --baseline and --sample need --fidelity")
        return None
    from dualcam.evaluation.fidelity import choose_fidelity

    usual = FidelitySettings()
    settings = FidelitySettings(
        space=options.space,
        steps=options.steps,
        insertion_baseline=options.baseline or usual.insertion_baseline,
        deletion_baseline=options.baseline or usual.deletion_baseline,
        seed=seed,
    )
    return choose_fidelity(
        options.fidelity,
        settings,
        explain=options.explain,
        scored_by=options.scored_by,
        sample=options.sample,
        truth=truth,
    )
