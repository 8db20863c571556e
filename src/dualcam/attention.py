"""The attention of a forward, seen where it is computed: by a fused kernel, by `nn.MultiheadAttention`, or in the open.

The probabilities A [B, H, n, n] need not exist for a score's gradient by them: as O = A V, it is dO V^T, head by head.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from dualcam.capture import with_tensor
from dualcam.errors import MethodNotApplicable
from dualcam.evidence import full
from dualcam.recording import running

OTHERWISE = "use a gradient method that reads activations, such as layer-cam or grad-cam"


@dataclass(frozen=True)
class Attention:
    """One computation of attention by the probabilities A [B, H, queries, keys].

    ``output`` is a tensor that the score depends on A through alone; ``gradient`` maps ds / doutput to ds / dA.
    """

    output: Tensor
    batch: int
    queries: int
    keys: int
    gradient: Callable[[Tensor], Tensor]


class AttentionSeen(TorchFunctionMode):
    """Passes each `Attention` of its thread's forwards to ``change``, and what that returns on in the output's place.

    Models that compute A by operations of their own are seen by a softmax over the last axis of four.
    """

    def __init__(self, change: Callable[[Attention], Tensor]) -> None:
        super().__init__()
        self.change = change

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run ``func``, by which what it calls itself is not seen again."""
        output = func(*args, **(kwargs or {}))
        reader = READERS.get(func)
        seen = None if reader is None else reader(output, *args, **(kwargs or {}))
        return output if seen is None else with_tensor(output, seen.output, self.change(seen))


def _fused(output: Tensor, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Attention:
    """Read `scaled_dot_product_attention`: O [B, H, n, d] and V."""
    values = value.detach()

    def gradient(found: Tensor) -> Tensor:
        return full(found) @ full(values).transpose(-1, -2)

    return Attention(output, query.shape[0], query.shape[-2], key.shape[-2], gradient)


def _multi_head(output: tuple[Tensor, Tensor | None], *args: Any, **kwargs: Any) -> Attention | None:
    """Read `multi_head_attention_forward`, [n, B, E]: dO is what its last projection takes back, V its input's."""
    given = _MULTI_HEAD.bind(*args, **kwargs)
    given.apply_defaults()
    call = given.arguments
    query, value, heads = call["query"], call["value"], call["num_heads"]
    if query.dim() != 3:
        return None
    last = call["out_proj_weight"].detach()
    joined = not call["use_separate_proj_weight"]
    weight = call["in_proj_weight"].chunk(3)[2] if joined else call["v_proj_weight"]
    bias = None if call["in_proj_bias"] is None else call["in_proj_bias"].chunk(3)[2]
    with torch.no_grad():
        values = by_heads(functional.linear(value, weight, bias), heads)

    def gradient(found: Tensor) -> Tensor:
        return by_heads(full(found) @ full(last), heads) @ full(values).transpose(-1, -2)

    more = int(call["bias_k"] is not None) + int(call["add_zero_attn"])
    return Attention(output[0], query.shape[1], query.shape[0], call["key"].shape[0] + more, gradient)


def _open(output: Tensor, *args: Any, **kwargs: Any) -> Attention | None:
    """Read a softmax: A itself."""
    axis = kwargs.get("dim", args[1] if len(args) > 1 else None)
    if output.dim() != 4 or axis not in (-1, 3):
        return None
    return Attention(output, output.shape[0], output.shape[2], output.shape[3], full)


_MULTI_HEAD = signature(functional.multi_head_attention_forward)
READERS: dict[Any, Callable[..., Attention | None]] = {
    functional.scaled_dot_product_attention: _fused,
    functional.multi_head_attention_forward: _multi_head,
    torch.softmax: _open,
    functional.softmax: _open,
    Tensor.softmax: _open,
}


def by_heads(tokens: Tensor, heads: int) -> Tensor:
    """Return ``tokens`` [n, B, E] as [B, heads, n, E / heads]."""
    return tokens.reshape(*tokens.shape[:2], heads, -1).permute(1, 2, 0, 3)


def find_blocks(model: nn.Module, run: Callable[[], object], batch: int) -> tuple[list[str], int]:
    """Return the paths of the blocks that ``run``, a forward of ``batch`` images, attends in, and their tokens' number.

    Blocks are alike: the paths of the modules that attend differ in one part, and the block is the path up to it.
    Raises `MethodNotApplicable` where there is no attention, or not of all tokens to all in one stack of blocks.
    """
    seen: list[tuple[str, Attention]] = []
    with running(model) as stack:

        def keep(attention: Attention) -> Tensor:
            seen.append((stack[-1], attention))
            return attention.output

        with torch.no_grad(), AttentionSeen(keep):
            run()
    if not seen:
        raise MethodNotApplicable(f"this model was not seen to attend, and there is no attention to read; {OTHERWISE}")
    for path, attention in seen:
        if attention.batch != batch or attention.queries != attention.keys or attention.keys != seen[0][1].keys:
            raise MethodNotApplicable(
                f"attention is read where in every block all tokens attend to all; in {path!r} {attention.queries} "
                f"attend to {attention.keys}, in {attention.batch} parts of {batch} images (windows, or queries of "
                f"their own); {OTHERWISE}"
            )
    return _blocks_of([path for path, _ in seen]), seen[0][1].keys


def _blocks_of(paths: Sequence[str]) -> list[str]:
    """Return each path up to the one part in which they differ; of one path alone, up to its last number."""
    parts = [path.split(".") for path in paths]
    names = list(zip(*parts, strict=False))
    places = [place for place, found in enumerate(names) if len(set(found)) > 1]
    if len(paths) == 1:
        places = [place for place, (name,) in enumerate(names) if re.search(r"\d", name)][-1:]
    alike = len({len(part) for part in parts}) == 1
    if not alike or len(places) != 1 or len({part[places[0]] for part in parts}) < len(parts):
        raise MethodNotApplicable(
            f"attention is read in one stack of blocks that attend once each; this model attends in "
            f"{', '.join(dict.fromkeys(paths))}; {OTHERWISE}"
        )
    return [".".join(part[: places[0] + 1]) for part in parts]
