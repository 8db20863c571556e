"""The tail of a forward, kept for gradients: one run of the model leaves activations, logits and the heads' features.

Up to the tapped layer the model runs without a graph. There its output is replaced by an equal tensor made from a leaf,
the activations F, and from there on autograd records; the inputs of the last layer, which a head of kind "tail" reads,
are then functions of F. The price is one forward and, for a gradient, one backward of the tail.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dualcam.capture import changed, inputs_read
from dualcam.cells import Cells
from dualcam.errors import ModelError
from dualcam.guards import unfused_attention
from dualcam.types import Tapped


@dataclass(frozen=True)
class Tail:
    """What lies between a tapped layer and the last ones, in a model that ``run`` takes from images to logits [B, C].

    ``cells`` say where F lies in the output of ``layer``; ``readers`` are the last layers.
    """

    run: Callable[[Tensor], Tensor]
    layer: nn.Module
    cells: Cells
    readers: tuple[nn.Module, ...]

    def tap(self, images: Tensor) -> Tapped:
        """Run the model once; F is a leaf, the features have a graph to it, the logits none."""
        leaves: list[Tensor] = []

        def open_up(activations: Tensor) -> Tensor:
            leaf = activations.detach()
            leaves.append((leaf.clone() if leaf.is_inference() else leaf).requires_grad_())
            return leaves[-1]

        with torch.inference_mode(mode=False), torch.no_grad():
            logits, features = self.through(images, open_up, record=True)
        return Tapped(leaves[-1].detach(), logits.detach(), features, leaves[-1])

    def tap_with_graph(self, images: Tensor) -> Tapped:
        """Run the model once, recorded from the images on; F is what it made of them, and the features are made of F.

        Where neither images nor parameters before F require gradients, F is a leaf, by which maps can be made still.
        """
        found: list[Tensor] = []

        def keep(activations: Tensor) -> Tensor:
            leaf = activations if activations.requires_grad else activations.detach().requires_grad_()
            found.append(leaf)
            return leaf

        with unfused_attention():
            logits, features = self.through(images, keep)
        return Tapped(found[-1], logits.detach(), features, found[-1])

    def through(
        self, images: Tensor, change: Callable[[Tensor], Tensor], *, record: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Return logits and features of a forward in which F [B, D, h, w] becomes ``change`` of it.

        ``record``: gradients are recorded from there on, whatever the mode is; run it under a mode of its own.
        """
        size = (images.shape[-2], images.shape[-1])
        ran = False

        def replace_cells(output: Tensor) -> Tensor:
            nonlocal ran
            ran = True
            return self.cells.put(output, change(self.cells.take(output, size)))

        with changed(self.layer, replace_cells, record=record), inputs_read(self.readers) as read:
            logits = self.run(images)
            features = join(read.values)
        if not ran:
            raise ModelError("the forward did not run the tapped layer; wrap the model again")
        return logits, features

    def read(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and features of a plain forward."""
        with inputs_read(self.readers) as read:
            logits = self.run(images)
        return logits, join(read.values)

    def features(self, images: Tensor) -> Tensor:
        """Return the features alone; the model is left as soon as they are known."""
        with inputs_read(self.readers, skip_rest=True) as read:
            self.run(images)
        return join(read.values)


def join(values: Sequence[Tensor | None]) -> Tensor:
    """Return the inputs of several last layers as one tensor; one input as it is.

    They lie side by side on the last axis; where a class token [B, D] meets tokens [B, N, D], on the axis of tokens.
    """
    parts = [value for value in values if value is not None]
    if len(parts) < len(values):
        raise ModelError("the forward did not run the last layer; wrap the model again")
    if len(parts) == 1:
        return parts[0]
    if len({part.dim() for part in parts}) > 1:
        return torch.cat([part.unsqueeze(1) if part.dim() == 2 else part for part in parts], 1)
    return torch.cat(parts, -1)
