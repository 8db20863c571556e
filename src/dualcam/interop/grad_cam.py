"""Any method of pytorch-grad-cam on a branch of a wrapped model (extra ``interop``)."""

from collections.abc import Callable
from typing import Any

import numpy as np
from pytorch_grad_cam.base_cam import BaseCAM

from dualcam.errors import MethodNotApplicable, check_choice
from dualcam.interop.branch import BranchModule
from dualcam.model import DualBranch
from dualcam.types import Branch, Sign


def grad_cam(
    model: DualBranch, method: type[BaseCAM], *, branch: Branch = "sigmoid", sign: Sign = "positive", **options: Any
) -> BaseCAM:
    """Return ``method``'s extractor for ``branch``; call it with ``input_tensor=`` and ``targets=``, as ever.

    ``sign="positive"`` keeps positive weights only and "negative" turns the evidence over before it does (weights by
    channel, or by cell for HiResCAM, LayerCAM and GradCAMElementWise); "signed" leaves the method as it is. All clamp
    weights, the paper's rule; of FinerCAM, SESS and RefineCAM those of their ``base_method``. The library rectifies,
    scales to [0, 1] and resizes afterwards, whatever the sign.
    ``options`` go to the method's constructor. The model is left as it is: modes, ``.grad``, hooks.

    Raises `MethodNotApplicable` for methods without weights under another sign than "signed" (EigenCAM and its kin),
    and for FullGrad, which reads the biases of a whole network.
    """
    check_choice("sign", sign, ("positive", "signed", "negative"))
    if method.__name__ == "FullGrad":
        raise MethodNotApplicable("FullGrad reads the biases of a whole network, not a layer: run it on that")
    module = BranchModule(model, branch)
    extractor: Any = method(module, [module.features], **options)
    if sign != "signed":
        for each in _parts(extractor):
            _clamp(each, 1 if sign == "positive" else -1)
    return extractor


def _parts(extractor: Any) -> list[Any]:
    """Return the extractors that make the maps: those below FinerCAM, SESS and RefineCAM, else the extractor itself."""
    below = getattr(extractor, "base_cam", None)
    return list(getattr(extractor, "base_cam_per_layer", [extractor if below is None else below]))


def _clamp(extractor: Any, factor: int) -> None:
    """Let ``extractor`` keep the weights whose sign is ``factor``'s, times it, so that they are not negative."""
    kind = type(extractor)
    if kind.get_cam_image is BaseCAM.get_cam_image:
        weights: Callable[..., Any] = extractor.get_cam_weights
        extractor.get_cam_weights = lambda *given: np.maximum(factor * _array(weights(*given)), 0)
        return
    if kind.__name__ not in {"HiResCAM", "LayerCAM", "GradCAMElementWise"}:
        raise MethodNotApplicable(f"{kind.__name__} has no weights to clamp; pass sign='signed'")
    image: Callable[..., Any] = extractor.get_cam_image

    def of_clamped(inputs: Any, layer: Any, targets: Any, activations: Any, grads: Any, smooth: bool) -> Any:
        return image(inputs, layer, targets, activations, np.maximum(factor * _array(grads), 0), smooth)

    extractor.get_cam_image = of_clamped


def _array(values: Any) -> Any:
    return values.detach().cpu().numpy() if hasattr(values, "detach") else values
