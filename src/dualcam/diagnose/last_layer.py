"""The layer that makes the logits: the place where softmax leaves a vector free."""

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dualcam.capture import fed
from dualcam.evidence import full, run_head
from dualcam.gradients import class_gradients
from dualcam.guards import evaluating
from dualcam.heads import Head, SideBySide
from dualcam.types import Tapped


@dataclass(frozen=True)
class LastLayer:
    """Class rows W [C, E] and biases b [C] of a head whose logits are W z + b, in double precision on the CPU.

    Softmax does not see W + 1 d^T, b + beta, whatever d [E] and beta. For linear heads z is the mean of the
    activations and E = D; else it is what the layer is given, times ``share``. The rows of several last layers whose
    outputs are added lie side by side, as their inputs do; where they are averaged, ``share`` is one over their number.
    """

    head: Head
    weight: Tensor
    bias: Tensor
    share: float = 1.0

    @property
    def row_norm(self) -> float:
        """Mean over classes of the rows' Euclidean norms."""
        return float(self.weight.norm(dim=1).mean())

    @property
    def mean_row_share(self) -> float:
        """The mean row's norm as a share of a row's."""
        return float(self.weight.mean(0).norm()) / max(self.row_norm, 1e-300)

    def inputs(self, tapped: Tapped) -> Tensor:
        """Return z [B, E] of a forward, in double precision on the CPU."""
        if self.head.is_linear:
            return tapped.activations.cpu().double().mean((2, 3))
        with torch.no_grad(), evaluating(self.head), fed(_module(self.head)) as tap:
            self.head(self.head.input_of(tapped))
        assert tap.value is not None, "the layer was found by a forward through it"
        return self.share * tap.value.detach().double().cpu()  # a tail's features have a graph

    def gradients(self, tapped: Tapped, vectors: Tensor) -> Tensor:
        """Return d(v . z)/dF: [B, S, D, h, w], or [B, S, D, 1, 1] where the head is linear.

        What a shift adds to the gradient of every logit, by linearity. ``vectors`` are [S, E], or [B, S, E] where each
        photo has its own; ``tapped`` is a whole batch.
        """
        activations = tapped.activations
        vectors = vectors.expand(len(activations), -1, -1)
        if self.head.is_linear:
            cells = activations.shape[2] * activations.shape[3]
            return (vectors.to(activations) / cells)[..., None, None]
        with torch.inference_mode(mode=False), torch.enable_grad(), evaluating(self.head):
            with fed(_module(self.head)) as tap:
                leaf, _ = run_head(self.head, tapped)
            assert tap.value is not None, "the layer was found by a forward through it"
            inputs = self.share * full(tap.value)
            sums = torch.einsum("be,bse->bs", inputs, vectors.to(inputs))
            return class_gradients(sums, leaf, keep_graph=leaf is tapped.leaf)


def exact(head: Head) -> Head:
    """Return a linear head's copy in double precision on the CPU, any other head itself."""
    if not head.is_linear:
        return head
    with torch.inference_mode(mode=False):
        return deepcopy(head).cpu().double()


def find_last_layer(head: Head, tapped: Tapped) -> LastLayer | None:
    """Return the layer that makes the logits, None where no linear layer does (a ReLU behind it, say).

    It is proven on a forward: the layer's own output must be the head's logits.
    """
    if head.is_linear:
        weight, bias = (part.detach().double().cpu() for part in head.rows())
        return LastLayer(head, weight, bias)
    module = _module(head)
    several = list(module.layers) if isinstance(module, SideBySide) else [module]
    layers = [layer for layer in several if isinstance(layer, nn.Linear)]
    if len(layers) < len(several):
        return None
    with torch.no_grad(), evaluating(head), fed(module) as tap:
        logits = head(head.input_of(tapped))
    if tap.value is None or tap.value.dim() != 2 or not torch.allclose(module(tap.value), logits, rtol=1e-4, atol=1e-5):
        return None
    share = 1 / len(layers) if isinstance(module, SideBySide) and module.how == "mean" else 1.0
    weight = torch.cat([layer.weight.detach().double().cpu() for layer in layers], 1)
    biases = [layer.bias.detach().double().cpu() for layer in layers if layer.bias is not None]
    return LastLayer(head, weight, share * sum(biases, weight.new_zeros(len(weight))), share)


def why_no_layer(head: Head) -> str:
    """Return why `find_last_layer` found none, for a reader."""
    nothing = "so there is nothing to shift, to collapse or to train again"
    if head.reads_features:
        return (
            f"this head's logits ({head.describe_steps()}) are no product of class rows with one vector: what its "
            f"layers make of several tokens is put together behind them, {nothing} here"
        )
    return (
        f"no linear layer makes this head's logits ({head.describe_steps()}): its rows leave softmax no free vector, "
        f"{nothing}"
    )


def _module(head: Head) -> nn.Module:
    """Return the module whose input is z, and whose output may be the logits; the head itself where there is none."""
    several = [part for part in head.parts if isinstance(part, SideBySide)]
    return several[-1] if several else head.last_layer() or head
