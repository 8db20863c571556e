"""What a model is called with and what it returns: adapters from its interface to images in, logits out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from dualcam.capture import first_tensor
from dualcam.errors import StructureNotFound


def scores_of(output: Any) -> Tensor:
    """Return the logits in a model's output: a tensor, ``.logits``, ``["logits"]``, or the first tensor inside."""
    if isinstance(output, Tensor):
        return output
    logits = getattr(output, "logits", None)
    if logits is None and isinstance(output, dict):
        logits = output.get("logits")
    found = logits if isinstance(logits, Tensor) else first_tensor(output)
    if found is None:
        raise StructureNotFound(
            f"the model returned {type(output).__name__}; expected logits [B, C] or an output with .logits; "
            f"pass scores=, a function from the model's output to its logits"
        )
    return found


@dataclass(frozen=True)
class Adapter:
    """How a classifier is run.

    ``forward`` (model, images) -> output calls it, where images alone are not its arguments; ``scores`` output ->
    logits [B, C], or [B] for a single logit, takes the logits out, where `scores_of` would take others.
    """

    forward: Callable[[nn.Module, Tensor], Any] | None = None
    scores: Callable[[Any], Tensor] | None = None

    def logits(self, model: nn.Module, images: Tensor) -> Tensor:
        """Return the logits [B, C] of preprocessed ``images``; raises `StructureNotFound` where they are no such."""
        output = model(images) if self.forward is None else self.forward(model, images)
        found = scores_of(output) if self.scores is None else self.scores(output)
        logits = found.unsqueeze(1) if isinstance(found, Tensor) and found.dim() == 1 else found
        if not isinstance(logits, Tensor) or logits.dim() != 2:
            came = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise StructureNotFound(
                f"expected logits of shape [B, C], the model returned {came}; pass scores=, a function from the "
                f"model's output to its logits"
            )
        return logits
