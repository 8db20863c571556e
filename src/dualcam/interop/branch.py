"""One branch of a wrapped model as a module that libraries with hooks can read."""

import torch
from torch import Tensor, nn

from dualcam.guards import evaluating, frozen
from dualcam.model import DualBranch
from dualcam.types import Branch


class BranchModule(nn.Module):
    """Images to the logits [B, C] of one branch; ``features`` is the layer to hook, with output F [B, D, h, w].

    F is in NCHW whatever the architecture, so no reshaping is called for. It is detached from the backbone, unless the
    images require a gradient, so a backward pass walks the head alone. The wrapped model is held, not owned: `eval`,
    `zero_grad` and the like do not reach it, and its parameters get no ``.grad``.
    """

    def __init__(self, model: DualBranch, branch: Branch = "sigmoid") -> None:
        super().__init__()
        model.head(branch)
        self.branch: Branch = branch
        self.features = nn.Identity()
        # Libraries ask a module's parameters for the device.
        self.anchor = nn.Parameter(torch.empty(0, device=model.device, dtype=model.dtype), requires_grad=False)
        self._held = (model,)

    def forward(self, images: Tensor) -> Tensor:
        """Return the branch's logits of preprocessed ``images`` [B, 3, H, W]."""
        (model,) = self._held
        head, wants_gradient = model.head(self.branch), torch.is_grad_enabled()

        def read(activations: Tensor) -> Tensor:
            if wants_gradient and not activations.requires_grad:
                activations = activations.detach().requires_grad_()
            shown: Tensor = self.features(activations)
            return shown

        with evaluating(model), frozen(model):
            with torch.set_grad_enabled(wants_gradient and images.requires_grad):
                if head.reads_features:
                    _, inputs = model.tail().through(images, read, record=wants_gradient)
                else:
                    inputs = model.activations(images)
            logits: Tensor = head(inputs if head.reads_features else read(inputs))
        return logits
