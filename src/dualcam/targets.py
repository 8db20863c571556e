"""What is explained: which score, of which classes."""

import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from operator import index as as_integer
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor

from dualcam.errors import ChoiceError, ClassNotFound, check_choice
from dualcam.tuning import DEFAULTS, Tuning
from dualcam.types import Outputs, Score

Classes: TypeAlias = "int | str | Tensor | Sequence[int | str] | None"


def logit(logits: Tensor) -> Tensor:
    """Return s_k."""
    return logits


def centered(logits: Tensor) -> Tensor:
    """Return l_k - mean_j l_j: free of any shift common to all classes."""
    return logits - logits.mean(1, keepdim=True)


def log_odds(logits: Tensor) -> Tensor:
    """Return log(p_k / (1 - p_k)) = l_k - logsumexp over the other classes; shift-free.

    Of all classes but the first, p_k <= 1/2, so log(1 - p_k) loses no digits; the first one's others are summed apart.
    """
    first = torch.zeros_like(logits, dtype=torch.bool).scatter(1, logits.argmax(1, keepdim=True), True)
    rest = torch.log1p(-logits.softmax(1).masked_fill(first, 0))
    others = logits.logsumexp(1, keepdim=True) + rest
    return logits - torch.where(first, logits.masked_fill(first, -torch.inf).logsumexp(1, keepdim=True), others)


def log_probability(logits: Tensor) -> Tensor:
    """Return log p_k; shift-free."""
    return logits.log_softmax(1)


def probability(logits: Tensor) -> Tensor:
    """Return p_k; shift-free."""
    return logits.softmax(1)


def to_probabilities(logits: Tensor, outputs: Outputs) -> Tensor:
    """Return a classifier's probabilities [B, C]: of classes that exclude each other, or of each label by itself.

    One logit alone is that of two classes of which the other's is 0.
    """
    return logits.softmax(1) if outputs == "softmax" and logits.shape[1] > 1 else logits.sigmoid()


def rest(logits: Tensor) -> Tensor:
    """Return l_k + log p_k, the residual softmax target-class score (Cai, arXiv 2501.06261, 2025): not shift-free.

    Its gradient does not vanish where p_k is near 1, as that of p_k and log p_k does, and still looks at the others.
    """
    return logits + logits.log_softmax(1)


def finer(logits: Tensor, gamma: float = 0.6, similar: int = 3) -> Tensor:
    """Return l_k - gamma * mean of l_d over the ``similar`` classes whose logits lie nearest to l_k.

    What tells a class from those it could be taken for (Zhang et al., Finer-CAM, CVPR 2025); shift-free for gamma = 1.
    One class alone has none to be compared with: its score is its logit.
    """
    classes = torch.arange(logits.shape[1], device=logits.device).expand(logits.shape)
    near = similar_classes(logits, classes, similar)
    others = logits.unsqueeze(1).expand(-1, logits.shape[1], -1).gather(2, near)
    return logits - gamma * others.mean(2) if near.shape[2] else logits


def similar_classes(logits: Tensor, index: Tensor, similar: int) -> Tensor:
    """Return the classes [B, K, T] with logits nearest to those of ``index`` [B, K], itself left out, nearest first."""
    distance = (logits.detach().unsqueeze(1) - logits.detach().gather(1, index).unsqueeze(2)).abs()
    distance = distance.scatter(2, index.unsqueeze(2), torch.inf)
    return distance.topk(min(similar, logits.shape[1] - 1), dim=2, largest=False).indices


SCORES: dict[Score, Callable[[Tensor], Tensor]] = {
    "logit": logit,
    "centered": centered,
    "log-odds": log_odds,
    "log-probability": log_probability,
    "probability": probability,
    "rest": rest,
    "finer": finer,
}
SHIFT_FREE: frozenset[Score] = frozenset({"centered", "log-odds", "log-probability", "probability"})
"""Scores that no shift common to all classes can change."""
READS: dict[Score, tuple[str, ...]] = {"finer": ("gamma", "similar")}
"""The fields of `Tuning` that a score reads."""


def score_values(logits: Tensor, score: Score, tuning: Tuning) -> Tensor:
    """Return the scores [B, C] of all classes from ``logits`` [B, C]; one logit is of two classes, the other's is 0."""
    check_choice("score", score, SCORES)
    if logits.shape[1] == 1:
        return logits if score in ("logit", "finer") else SCORES[score](_with_other(logits))[:, :1]
    return finer(logits, tuning.gamma, tuning.similar) if score == "finer" else SCORES[score](logits)


def score_gradients(logits: Tensor, index: Tensor, score: Score, tuning: Tuning = DEFAULTS) -> Tensor:
    """Return d score_k / d logits, [B, K, C], for the classes ``index`` [B, K]; closed forms."""
    check_choice("score", score, SCORES)
    if logits.shape[1] == 1 and score not in ("logit", "finer"):
        return score_gradients(_with_other(logits), index, score, tuning)[:, :, :1]
    chosen = torch.nn.functional.one_hot(index, logits.shape[1]).to(logits)
    if score == "logit":
        return chosen
    if score == "centered":
        return chosen - 1 / logits.shape[1]
    if score == "finer":
        near = similar_classes(logits, index, tuning.similar)
        share = tuning.gamma / max(1, near.shape[2])
        return chosen.scatter_add(2, near, chosen.new_full((), -share).expand(near.shape))
    p = logits.softmax(1).unsqueeze(1)
    if score == "log-probability":
        return chosen - p
    if score == "rest":
        return 2 * chosen - p
    if score == "probability":
        return (chosen - p) * p.squeeze(1).gather(1, index).unsqueeze(2)
    others = logits.unsqueeze(1).masked_fill(chosen.bool(), -torch.inf).softmax(2)
    return chosen - others


def _with_other(logits: Tensor) -> Tensor:
    return torch.cat([logits, torch.zeros_like(logits)], 1)


def resolve_classes(classes: Classes, softmax_logits: Tensor, names: Sequence[str] | None) -> Tensor:
    """Return class indices [B, K] for what the user asked for.

    None is the softmax branch's first choice; "top5" its first five; "all" every class; an int or a name one class;
    a sequence of those several; a tensor [B] or [B, K] gives them per image. Raises `ClassNotFound`, `ChoiceError`.
    """
    batch, count = softmax_logits.shape
    classes = settled(classes, batch)
    if classes is None:
        return softmax_logits.argmax(1, keepdim=True)
    if isinstance(classes, str):
        if classes == "all":
            return torch.arange(count, device=softmax_logits.device).expand(batch, count)
        if re.fullmatch(r"top[0-9]+", classes) and (names is None or classes not in names):
            asked = int(classes[3:])
            if asked < 1:
                raise ClassNotFound(f"classes={classes!r}: ask for at least top1")
            return softmax_logits.topk(min(asked, count), dim=1).indices
    if isinstance(classes, Tensor):
        index = classes.to(device=softmax_logits.device, dtype=torch.long)
        if index.numel() and not 0 <= int(index.min()) <= int(index.max()) < count:
            raise ClassNotFound(f"class indices must lie in 0..{count - 1}; got {int(index.min())}..{int(index.max())}")
        return index
    wanted = [classes] if isinstance(classes, int | str) else classes
    indices = [class_index(item, count, names) for item in wanted]
    return torch.tensor(indices, dtype=torch.long, device=softmax_logits.device).expand(batch, len(indices))


def settled(classes: Classes, batch: int) -> "Tensor | str | int | list[int | str] | None":
    """Return ``classes`` in a form that can be read for each part of ``batch`` images: a tensor is [B, K].

    An index may be of any integer type, a tensor without axes among them. Raises `ChoiceError` for what is neither
    index nor name, as a mask or a probability is.
    """
    if classes is None or isinstance(classes, str):
        return classes
    if isinstance(classes, Tensor) and classes.dim():
        return _of_each_image(classes, batch)
    asked: Any = classes
    try:
        several = iter(asked)
    except TypeError:  # so is a tensor without axes
        return _integer(asked)
    wanted = [item if isinstance(item, str) else _integer(item) for item in several]
    if not wanted:
        raise ChoiceError("classes is empty; name at least one class, or pass None for the predicted one")
    return wanted


def _of_each_image(classes: Tensor, batch: int) -> Tensor:
    """Return indices [B, K] given as [B] or [B, K]; raises `ChoiceError`."""
    if classes.is_floating_point() or classes.is_complex() or classes.dtype == torch.bool:
        raise ChoiceError(
            f"classes as a tensor hold indices, of an integer type; got {classes.dtype}; of a mask [C] pass "
            f"mask.nonzero().flatten().tolist()"
        )
    index = classes.unsqueeze(1) if classes.dim() == 1 else classes
    if index.dim() != 2 or index.shape[0] != batch or not index.shape[1]:
        raise ChoiceError(
            f"classes as a tensor must be [B] or [B, K] with B={batch} images; got {tuple(classes.shape)}"
        )
    return index


def _integer(item: Any) -> int:
    """Return an index of any integer type as an int; raises `ChoiceError`."""
    is_truth = isinstance(item, bool) or (isinstance(item, Tensor) and item.dtype == torch.bool)
    try:
        return as_integer(cast(Any, None) if is_truth else item)
    except TypeError as error:
        raise ChoiceError(
            f"classes: expected an index or a name, several of those, or a tensor [B] or [B, K] of each image's "
            f"indices; got {item!r} ({type(item).__name__})"
        ) from error


def is_rule(text: str) -> bool:
    """Whether ``text`` is "all", "top3" or "over0.5" (any numbers) rather than a class."""
    return re.fullmatch(r"all|top\d+|over\d*\.?\d+", text) is not None


def over_threshold(classes: Classes, names: Sequence[str] | None) -> float | None:
    """Return the probability that "over0.5" names, None for other choices; raises `ChoiceError` outside of (0, 1]."""
    if not isinstance(classes, str) or (names is not None and classes in names):
        return None
    match = re.fullmatch(r"over(\d*\.?\d+)", classes)
    if match is None:
        return None
    if not 0 < float(match[1]) <= 1:
        raise ChoiceError(f"classes={classes!r}: a label's probability lies in (0, 1], as in over0.5")
    return float(match[1])


def class_index(item: int | str, count: int, names: Sequence[str] | None) -> int:
    """Return the index of a class given by index, by name (case does not matter), or by index in a string."""
    if isinstance(item, str):
        lowered = [name.lower() for name in names or ()]
        hits = [index for index, name in enumerate(lowered) if name == item.lower()]
        if len(hits) == 1:
            return hits[0]
        if len(hits) > 1:
            raise ClassNotFound(f"{item!r} names the classes {hits}; pass the index instead")
        if not item.removeprefix("-").isdecimal():
            if not names:
                raise ClassNotFound(f"{item!r}: this model has no class names; pass an index 0..{count - 1}")
            near = get_close_matches(item.lower(), lowered, n=4, cutoff=0.5)
            near += [name for name in lowered if item.lower() in name and name not in near][:4]
            hint = f"; near names: {', '.join(near)}" if near else ""
            raise ClassNotFound(f"no class is called {item!r}{hint}")
        item = int(item)
    if not 0 <= item < count:
        raise ClassNotFound(f"class {item} does not exist; this model has classes 0..{count - 1}")
    return item
