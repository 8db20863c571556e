"""dualcam: signed, truthful evidence maps for any image classifier.

Wrap a classifier, train its sigmoid branch, explain. Names load when they are used, so importing costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dualcam.acceleration.optimize import optimize as optimize
    from dualcam.data.preprocessing import Preprocessing as Preprocessing
    from dualcam.errors import DualcamError as DualcamError
    from dualcam.explainer import explain as explain
    from dualcam.explanation import ClassEvidence as ClassEvidence
    from dualcam.explanation import Explanation as Explanation
    from dualcam.model import DualBranch as DualBranch
    from dualcam.training.fit import fit as fit
    from dualcam.types import Box as Box
    from dualcam.types import BranchLogits as BranchLogits
    from dualcam.wrapper import wrap as wrap

__version__ = "0.1.0"

_HOMES = {
    "Box": "types",
    "BranchLogits": "types",
    "ClassEvidence": "explanation",
    "DualBranch": "model",
    "DualcamError": "errors",
    "Explanation": "explanation",
    "Preprocessing": "data.preprocessing",
    "explain": "explainer",
    "fit": "training.fit",
    "optimize": "acceleration.optimize",
    "wrap": "wrapper",
}
__all__ = ["__version__", *_HOMES]  # noqa: PLE0604  - the names are strings


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'dualcam' has no attribute {name!r}")
    return getattr(import_module(f"dualcam.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
