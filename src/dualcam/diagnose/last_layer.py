"""The layer that makes the logits: the place where softmax leaves a vector free."""

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dualcam.capture import fed
from dualcam.guards import evaluating
from dualcam.heads import Head


@dataclass(frozen=True)
class LastLayer:
    """Class rows W [C, E] and biases b [C] of a head whose logits are W z + b, in double precision on the CPU.

    Softmax does not see W + 1 d^T, b + beta, whatever d [E] and beta. For linear heads z is the mean of the
    activations and E = D.
    """

    head: Head
    weight: Tensor
    bias: Tensor

    @property
    def row_norm(self) -> float:
        """Mean over classes of the rows' Euclidean norms."""
        return float(self.weight.norm(dim=1).mean())

    @property
    def mean_row_share(self) -> float:
        """The mean row's norm as a share of a row's."""
        return float(self.weight.mean(0).norm()) / max(self.row_norm, 1e-300)

    def inputs(self, activations: Tensor) -> Tensor:
        """Return z [B, E] of ``activations`` [B, D, h, w], in double precision on the CPU."""
        if self.head.is_linear:
            return activations.double().cpu().mean((2, 3))
        with torch.no_grad(), evaluating(self.head):
            return _run_to(self.head, activations).double().cpu()

    def gradients(self, activations: Tensor, vectors: Tensor) -> Tensor:
        """Return d(v . z)/dF of ``vectors`` [S, E]: [B, S, D, h, w], or [B, S, D, 1, 1] where the head is linear.

        What a shift d adds to the gradient of every logit, by linearity.
        """
        if self.head.is_linear:
            cells = activations.shape[2] * activations.shape[3]
            rows = vectors.to(activations) / cells
            return rows.expand(len(activations), -1, -1)[..., None, None]
        with torch.inference_mode(mode=False), torch.enable_grad(), evaluating(self.head):
            leaf = activations.detach().clone().requires_grad_()
            sums = _run_to(self.head, leaf) @ vectors.to(leaf).T
            found = [torch.autograd.grad(sums[:, s].sum(), leaf, retain_graph=True)[0] for s in range(len(vectors))]
        return torch.stack(found, 1)


def exact(head: Head) -> Head:
    """Return a linear head's copy in double precision on the CPU, any other head itself."""
    if not head.is_linear:
        return head
    with torch.inference_mode(mode=False):
        return deepcopy(head).cpu().double()


def find_last_layer(head: Head, activations: Tensor) -> LastLayer | None:
    """Return the layer that makes the logits, None where no linear layer does (a ReLU behind it, say).

    It is proven on ``activations`` [B, D, h, w]: the layer's own output must be the head's logits.
    """
    if head.is_linear:
        rows = head.rows()
        return LastLayer(head, *(part.detach().double().cpu() for part in rows))
    layer = head.last_layer()
    if not isinstance(layer, nn.Linear):
        return None
    with torch.no_grad(), evaluating(head), fed(layer) as tap:
        logits = head(activations)
    if tap.value is None or tap.value.dim() != 2 or not torch.allclose(layer(tap.value), logits, rtol=1e-4, atol=1e-5):
        return None
    weight = layer.weight.detach().double().cpu()
    bias = weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.detach().double().cpu()
    return LastLayer(head, weight, bias)


def _run_to(head: Head, activations: Tensor) -> Tensor:
    layer = head.last_layer()
    assert layer is not None
    with fed(layer) as tap:
        head(activations)
    assert tap.value is not None, "the layer was found by a forward through it"
    return tap.value
