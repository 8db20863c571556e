"""captum's LayerGradCam on a branch of a wrapped model (extra ``interop``)."""

from captum.attr import LayerGradCam

from dualcam.interop.branch import BranchModule
from dualcam.model import DualBranch
from dualcam.types import Branch


def layer_grad_cam(model: DualBranch, *, branch: Branch = "sigmoid") -> LayerGradCam:
    """Return captum's Grad-CAM for ``branch``: ``.attribute(images, target=k)`` gives signed maps [B, 1, h, w].

    They are `explain(..., method="grad-cam", sign="signed")`'s, in logits. Positive evidence, the clamp of weights, is
    not to be had from them: captum rectifies the sum over channels (``relu_attributions=True``). captum itself sums
    over the wrong axis of token models; here it gets F [B, D, h, w]. The model is left as it is.
    """
    module = BranchModule(model, branch)
    return LayerGradCam(module, module.features)
