"""Layers that keep their weights in the form that the CPU's library computes with.

PyTorch brings a convolution's weights into oneDNN's blocked form anew in every call, which at batch 1 takes about as
long as the convolution, and leaves linear layers in single precision to another library, which takes up to twice as
long. Here weights are brought into that form once a shape of the input.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dualcam.acceleration.blocked import Keeping, serves


class PackedConv2d(Keeping, nn.Conv2d):
    """A convolution that takes over another's parameters and keeps them in blocked form as well."""

    @classmethod
    def of(cls, other: nn.Conv2d) -> "PackedConv2d":
        """Return a convolution with the parameters of ``other``, shared with it."""
        new = cls(
            other.in_channels,
            other.out_channels,
            other.kernel_size,  # type: ignore[arg-type]
            other.stride,  # type: ignore[arg-type]
            other.padding,  # type: ignore[arg-type]
            other.dilation,  # type: ignore[arg-type]
            other.groups,
            other.bias is not None,
            device="meta",
        )
        new.weight, new.bias = other.weight, other.bias
        return new.train(other.training)

    def forward(self, input: Tensor) -> Tensor:
        """Return what `torch.nn.Conv2d` does."""
        if input.dim() != 4 or not serves(input, self.weight, self.bias):
            return super().forward(input)
        blocked = self.blocked("weight", self.weight, input.shape)
        output: Tensor = torch.ops.mkldnn._convolution_pointwise.default(
            input, blocked, self.bias, *self._geometry(), "none", [], ""
        )
        return output

    def _pack(self, weight: Tensor, shape: torch.Size) -> Tensor:
        blocked: Tensor = torch.ops.mkldnn._reorder_convolution_weight.default(weight, *self._geometry(), shape)
        return blocked

    def _geometry(self) -> tuple[Any, ...]:
        return self.padding, self.stride, self.dilation, self.groups


class PackedLinear(Keeping, nn.Linear):
    """A linear layer that takes over another's parameters and keeps them in blocked form as well."""

    @classmethod
    def of(cls, other: nn.Linear) -> "PackedLinear":
        """Return a linear layer with the parameters of ``other``, shared with it."""
        new = cls(other.in_features, other.out_features, other.bias is not None, device="meta")
        new.weight, new.bias = other.weight, other.bias
        return new.train(other.training)

    def forward(self, input: Tensor) -> Tensor:
        """Return what `torch.nn.Linear` does."""
        if not serves(input, self.weight, self.bias):
            return super().forward(input)
        return _linear(input, self.blocked("weight", self.weight, input.shape), self.bias)

    def _pack(self, weight: Tensor, shape: torch.Size) -> Tensor:
        return _pack_linear(weight, shape)


class PackedAttention(Keeping, nn.MultiheadAttention):
    """Self-attention that takes over another's parameters and keeps both of its projections in blocked form as well.

    It is computed so where tokens [B, N, D] ([N, B, D] without ``batch_first``) attend to themselves, without masks
    and without being asked for the weights of attention; everything else is left to PyTorch.
    """

    @classmethod
    def of(cls, other: nn.MultiheadAttention) -> "PackedAttention":
        """Return attention with the parameters of ``other``, shared with it."""
        assert attends_plainly(other)
        bias = other.in_proj_bias is not None
        new = cls(
            other.embed_dim, other.num_heads, other.dropout, bias=bias, batch_first=other.batch_first, device="meta"
        )
        new.in_proj_weight, new.in_proj_bias, new.out_proj = other.in_proj_weight, other.in_proj_bias, other.out_proj
        return new.train(other.training)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return what `torch.nn.MultiheadAttention` does."""
        plain = query is key and key is value and query.dim() == 3 and key_padding_mask is None and attn_mask is None
        if (
            not plain
            or need_weights
            or is_causal
            or (self.training and self.dropout > 0)
            or not serves(query, *self.parameters())
        ):
            return super().forward(
                query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal
            )
        return self._attend(query), None

    def _attend(self, tokens: Tensor) -> Tensor:
        """Return what tokens [B, N, D] ([N, B, D]) make of each other, in their shape."""
        projected = _linear(
            tokens, self.blocked("in_proj_weight", self.in_proj_weight, tokens.shape), self.in_proj_bias
        )
        parts = projected.reshape(*projected.shape[:2], 3, self.num_heads, self.head_dim)
        order = (2, 0, 3, 1, 4) if self.batch_first else (2, 1, 3, 0, 4)
        mixed = functional.scaled_dot_product_attention(*parts.permute(order))  # [B, heads, N, D / heads]
        mixed = mixed.permute((0, 2, 1, 3) if self.batch_first else (2, 0, 1, 3)).flatten(-2)
        out = self.out_proj
        if not serves(mixed, out.weight, out.bias):  # whoever watches attention may have opened a graph at its output
            return functional.linear(mixed, out.weight, out.bias)
        return _linear(mixed, self.blocked("out_proj.weight", out.weight, tokens.shape), out.bias)

    def _pack(self, weight: Tensor, shape: torch.Size) -> Tensor:
        return _pack_linear(weight, shape)


def attends_plainly(module: nn.MultiheadAttention) -> bool:
    """Whether tokens of one size attend to themselves and nothing else, by weights that are plain parameters."""
    return (
        module._qkv_same_embed_dim
        and module._parameters.get("in_proj_weight") is not None
        and module.bias_k is None
        and module.bias_v is None
        and not module.add_zero_attn
        and module.out_proj._parameters.get("weight") is not None
    )


def _linear(input: Tensor, blocked: Tensor, bias: Tensor | None) -> Tensor:
    output: Tensor = torch.ops.mkldnn._linear_pointwise.default(input, blocked, bias, "none", [], "")
    return output


def _pack_linear(weight: Tensor, shape: torch.Size) -> Tensor:
    blocked: Tensor = torch.ops.mkldnn._reorder_linear_weight.default(weight, shape.numel() // shape[-1])
    return blocked
