"""Forwards of noise images, as a diagnosis keeps them."""

from torch import Tensor

from dualcam import DualBranch
from dualcam.data.prepared import prepare_tensor
from dualcam.diagnose.forwards import Forwards, to_keep
from dualcam.explainer import run_model
from dualcam.types import Tapped


def kept(model: DualBranch, images: Tensor) -> tuple[Forwards, Tapped]:
    """Return what a diagnosis keeps of ``images``, and their forward."""
    forward = run_model(model, prepare_tensor(model.preprocessing, images))
    return Forwards(model, to_keep(model, forward)), forward.tapped
