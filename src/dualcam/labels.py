"""The sigmoid branch as a multi-label classifier: probabilities of labels from class-balanced logits."""

import torch
from torch import Tensor

from dualcam.errors import ChoiceError
from dualcam.model import DualBranch


def label_probabilities(model: DualBranch, sigmoid_logits: Tensor) -> Tensor:
    """Return the probability of each label, [B, C], by the sigmoid branch's logits s [B, C].

    Class-balanced BCE is least where s_k = log[p_k P_k / (1 - P_k)], so P_k = sigma(s_k - log p_k): without that
    correction a label would count as probable as soon as the photo speaks for it more than nothing. Labels without
    photos in the training data have probability 0. Raises `ChoiceError` where the branch has not been trained, unless
    it is a clone of a classifier that has a sigmoid for each label itself.
    """
    weight = positive_weight(model).to(sigmoid_logits)
    return (sigmoid_logits - weight.log()).sigmoid()


def positive_weight(model: DualBranch) -> Tensor:
    """Return p [C], the weight of positives in the branch's training; infinite for labels that had no photos."""
    record = model.training_record
    if record is None:
        if model.outputs == "sigmoid":
            return torch.ones(model.classes)
        raise ChoiceError(
            "labels over a threshold need probabilities of a trained sigmoid branch, and this one is a clone of the "
            "softmax head; train it (dualcam train DATA --multi-label), or ask for classes='top3'"
        )
    known = record.get("positive_weight")
    if isinstance(known, list):
        return torch.tensor([torch.inf if weight is None else weight for weight in known])
    if known is None:
        balance = record.get("settings", {}).get("balance", "uniform")
        if balance == "frequency":
            raise ChoiceError(
                "this branch was trained with balance='frequency' by an earlier version, which did not note the "
                "weights that probabilities need; train it again, or ask for classes='top3'"
            )
        known = 1.0 if balance == "none" else max(model.classes - 1, 1)
    return torch.full((model.classes,), float(known))
