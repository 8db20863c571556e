"""How a score moves with the attention of each block, read by the model's own last layers: what LeGrad's maps are of.

One forward does for all blocks. Where a block attends, a leaf takes the place of what comes of it, and autograd records
up to the block's output, Z_l; the next block takes Z_l without its graph. Behind the last block the outputs of all
go on as one batch, so what lies between the blocks and the logits scores each of them as if it were the last.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from dualcam.attention import OTHERWISE, Attention, AttentionSeen, find_blocks
from dualcam.capture import changed
from dualcam.cells import Cells, cells_of
from dualcam.errors import MethodNotApplicable, ModelError
from dualcam.evidence import full, full_precision
from dualcam.examine import probe_input
from dualcam.guards import evaluating
from dualcam.heads import Head
from dualcam.model import DualBranch
from dualcam.targets import score_values
from dualcam.tuning import DEFAULTS, Tuning
from dualcam.types import Branch, Evidence, Probes, Relevance, Score

AT_ONCE = 4
"""Images whose blocks are recorded at once, which bounds what is kept of them."""

_FOUND: WeakKeyDictionary[DualBranch, tuple[str, ...]] = WeakKeyDictionary()
"""The blocks of models that were asked for them; as with their anatomy, other modules need another wrapping."""


class BlocksRun(NamedTuple):
    """One forward: what the head reads of each block's output [L * B, ...], block by block, and the leaves it is of."""

    inputs: Tensor
    attentions: tuple[Attention, ...]
    leaves: tuple[Tensor, ...]


def attention_blocks(model: DualBranch) -> tuple[str, ...]:
    """Return the paths of the blocks that attend, in the order they run in; found once a model, by a run on noise.

    Raises `MethodNotApplicable` where attention can not be read, so that nothing is left to fail later.
    """
    if model not in _FOUND:
        with torch.inference_mode(mode=False), evaluating(model):
            size = model.anatomy.cells.size
            noise = probe_input(model.classifier, size)
            paths, tokens = find_blocks(model.classifier, lambda: model.activations_and_logits(noise), len(noise))
            if cells_at(model, tokens, size) is None:
                raise MethodNotApplicable(
                    f"attention is read on a grid of cells; {tokens} tokens make none for {size[0]} x {size[1]} px; "
                    f"{OTHERWISE}"
                )
            index = torch.zeros(len(noise), 1, dtype=torch.long, device=noise.device)
            try:
                attention_relevance(model, paths, noise, index, "softmax", "logit", DEFAULTS)
            except (RuntimeError, ValueError, IndexError, TypeError) as error:
                raise MethodNotApplicable(
                    f"the outputs of {paths[0]} and the blocks after it do not go through the last layers as one "
                    f"batch ({error}); {OTHERWISE}"
                ) from error
        _FOUND[model] = tuple(paths)
    return _FOUND[model]


def attention_evidence(
    model: DualBranch, images: Tensor, index: Tensor, branch: Branch, score: Score, tuning: Tuning
) -> Evidence:
    """Return the evidence of a method of need "attention" for the classes ``index`` [B, K]; F is 1, as it has none."""
    blocks = attention_blocks(model)
    found = [
        attention_relevance(model, blocks, some, asked, branch, score, tuning)
        for some, asked in zip(torch.split(images, AT_ONCE), torch.split(index, AT_ONCE), strict=True)
    ]
    relevance = Relevance(*(torch.cat(parts) for parts in zip(*found, strict=True)))
    signed = (relevance.favor - relevance.against).unsqueeze(2)
    return Evidence(
        torch.ones_like(signed[:, :1]), signed, None, Probes(images, linear=False, tuning=tuning, attention=relevance)
    )


def attention_relevance(
    model: DualBranch,
    blocks: Sequence[str],
    images: Tensor,
    index: Tensor,
    branch: Branch,
    score: Score,
    tuning: Tuning,
) -> Relevance:
    """Return the mean over blocks, heads and queries of relu(g) and of relu(-g), g = ds_l / dA_l: [B, K, h, w] each.

    Bousselham et al., LeGrad, ICCV 2025 (arXiv 2404.03214), sec. 3: s_l is the score of the class ``index`` [B, K] for
    the output of block l. ``tuning.blocks`` keeps the last ones.
    """
    head, kept = model.head(branch), blocks[-(tuning.blocks or 0) :]
    with torch.inference_mode(mode=False), torch.no_grad(), evaluating(model):
        run = run_blocks(model, head, images, blocks, kept)
        with torch.enable_grad():
            scores = score_values(full(head(run.inputs)), score, tuning)
            totals = scores.gather(1, index.clone().repeat(len(kept), 1)).sum(0)
        with full_precision(images):
            found = [
                _columns(run, torch.autograd.grad(total, run.leaves, retain_graph=place < len(totals) - 1))
                for place, total in enumerate(totals)
            ]
        size = (images.shape[-2], images.shape[-1])
        tokens = run.attentions[0].keys
        cells = cells_at(model, tokens, size)
        if cells is None:
            raise ModelError(f"{tokens} tokens make no grid for {size[0]} x {size[1]} px; use another size")
        return Relevance(*(cells.take(torch.stack(each, 2), size) for each in zip(*found, strict=True)))


def run_blocks(model: DualBranch, head: Head, images: Tensor, blocks: Sequence[str], kept: Sequence[str]) -> BlocksRun:
    """Run the model once on ``images`` [B, 3, H, W], recorded within each block of ``kept``, the last of ``blocks``.

    To be run under a grad mode of the caller's, which restores it. Raises `ModelError` where other blocks attend than
    were found, `MethodNotApplicable` where the head does not read what the last of them gives.
    """
    attentions: list[Attention] = []
    leaves: list[Tensor] = []
    outputs: list[Tensor] = []

    def open_up(attention: Attention) -> Tensor:
        attentions.append(attention)
        if len(attentions) <= len(blocks) - len(kept):
            return attention.output
        torch.set_grad_enabled(True)
        leaves.append(attention.output.detach().clone().requires_grad_())
        return leaves[-1].clone()

    def pass_on(output: Tensor) -> Tensor:
        if output.dim() != 3 or output.shape[:2] != (len(images), attentions[-1].keys):
            raise MethodNotApplicable(f"a block gave {tuple(output.shape)}; expected [B, tokens, D]; {OTHERWISE}")
        outputs.append(output)
        if len(outputs) == len(kept):
            return torch.cat(outputs)
        torch.set_grad_enabled(False)
        return output.detach()

    with ExitStack() as opened:
        for path in kept:
            opened.enter_context(changed(model.classifier.get_submodule(path), pass_on))
        opened.enter_context(AttentionSeen(open_up))
        inputs = model.tail().features(images) if head.reads_features else model.activations(images)
    if len(attentions) != len(blocks) or len(outputs) != len(kept):
        raise ModelError(f"the forward attended {len(attentions)} times, not {len(blocks)}; wrap the model again")
    if len(inputs) != len(kept) * len(images):
        raise MethodNotApplicable(
            f"the head reads {model.anatomy.layer!r}, which is not made of the output of {blocks[-1]!r} alone; "
            f"{OTHERWISE}"
        )
    return BlocksRun(inputs, tuple(attentions[len(blocks) - len(kept) :]), tuple(leaves))


def _columns(run: BlocksRun, gradients: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return relu(g) and relu(-g) of one class by the attended token, [B, n], the means over all else."""
    by_block = [attention.gradient(each) for attention, each in zip(run.attentions, gradients, strict=True)]
    parts: tuple[Callable[[Tensor], Tensor], ...] = (lambda g: g.clamp(min=0), lambda g: -g.clamp(max=0))
    favor, against = (torch.stack([part(g).mean((1, 2)) for g in by_block]).mean(0) for part in parts)
    return favor, against


def cells_at(model: DualBranch, tokens: int, size: tuple[int, int]) -> Cells | None:
    """Return where the cells lie among ``tokens`` tokens for an input of ``size``, None where they make no grid."""
    cells = model.anatomy.cells
    if cells.layout == "tokens" and tokens - cells.leading - cells.trailing == _at_size(cells, size):
        return cells
    return cells_of(torch.Size((1, tokens, 1)), size, known=[model.anatomy.grid])


def _at_size(cells: Cells, size: tuple[int, int]) -> int:
    """Return how many cells an input of ``size`` has, at as many a pixel."""
    return round(cells.grid[0] * size[0] / cells.size[0]) * round(cells.grid[1] * size[1] / cells.size[1])
