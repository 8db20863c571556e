"""How the frozen network's passes run where no cache keeps them: their mode, and their precision."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from dualcam.errors import ChoiceError, ModelError
from dualcam.heads import Head
from dualcam.model import DualBranch
from dualcam.training.cache import extract
from dualcam.training.settings import TrainingSettings
from dualcam.types import Precision

AUTOCAST: dict[Precision, torch.dtype] = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}


def check_passes(settings: TrainingSettings, *, cached: bool, world: int, device: str) -> None:
    """Raise `ChoiceError` where ``settings`` ask for passes that a cache, several processes, or a CPU can not have."""
    check_precision(settings.precision, device)
    for name, value, usual in (
        ("frozen_mode", settings.frozen_mode, "eval"),
        ("precision", settings.precision, "32-true"),
    ):
        if cached and value != usual:
            flag = f"--{name.replace('_', '-')} {value}"
            why = (
                "features then depend on the company of each batch" if name == "frozen_mode" else "it keeps 32-bit ones"
            )
            raise ChoiceError(f"{flag} can not be had of a feature cache: {why}; add --no-cache (cache=False)")
    if world > 1 and settings.frozen_mode == "train":
        raise ChoiceError(
            f"--frozen-mode train normalizes by the whole batch, of which each of {world} processes has only a part; "
            "use one process (--devices 1 --nodes 1), or --frozen-mode eval"
        )


def check_precision(precision: Precision, device: str) -> None:
    """Raise `ChoiceError` for "16-mixed" on a CPU."""
    if precision == "16-mixed" and device.partition(":")[0] == "cpu":
        raise ChoiceError(
            "--precision 16-mixed needs an accelerator, and the device is cpu; use bf16-mixed or 32-true there"
        )


class Passes:
    """Images to what a head is trained on, [B, ...] float32 on the CPU, without gradients.

    In mode "train" the network runs as after `torch.nn.Module.train`: batch norms normalize by the batch, dropout is
    on, up to the branch's first layer. It runs in a copy, so that no layer can change the model's own running
    statistics, modes or anything else, however the run ends. Raises `ModelError` for a model that can not be copied.
    """

    def __init__(self, model: DualBranch, head: Head, settings: TrainingSettings, *, training: bool) -> None:
        self.in_train_mode = training and settings.frozen_mode == "train"
        self.precision = settings.precision
        self.model, self.head = copied((model, head)) if self.in_train_mode else (model, head)
        if self.in_train_mode:
            self.model.train()

    def __call__(self, images: Tensor) -> Tensor:
        """Return the features of preprocessed ``images`` [B, 3, H, W]."""
        with self._autocast():
            if not self.in_train_mode:
                return extract(self.model, self.head, images)
            with torch.no_grad(), statistics_told(len(images)):
                return self._features(images.to(self.model.device, self.model.dtype)).float().cpu()

    def _features(self, images: Tensor) -> Tensor:
        """Return what `Head.reduce` would, of a forward in train mode: the input of the head's first layer there.

        Read there, it has passed the dropout before that layer, which the head's chain leaves out.
        """
        first = self.head.first_layer()
        if (
            self.head.reads_features
            or first is None
            or all(first is not module for module in self.model.classifier.modules())
        ):
            return self.model.training_inputs(self.head, images)
        features = replace(self.model.tail(), readers=(first,)).features(images)
        return features.mean((2, 3)) if self.head.is_linear and features.dim() == 4 else features

    def _autocast(self) -> AbstractContextManager[object]:
        dtype = AUTOCAST.get(self.precision)
        return nullcontext() if dtype is None else torch.autocast(self.model.device.type, dtype)


def copied(parts: tuple[DualBranch, Head]) -> tuple[DualBranch, Head]:
    """Return a deep copy of a model and its head, which share their layers as before; raises `ModelError`."""
    try:
        return deepcopy(parts)
    except Exception as error:  # whatever a user's module holds may refuse in its own way
        raise ModelError(
            f"--frozen-mode train runs in a copy of the model, and this one can not be copied ({error}); use "
            "--frozen-mode eval"
        ) from error


@contextmanager
def statistics_told(photos: int) -> Iterator[None]:
    """Raise `ModelError` where a batch norm in train mode has but one value a channel."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise ModelError(
            f"a batch norm of the model has no statistics of a batch of {photos} photo; choose a --batch-size that "
            "leaves more for the last batch, or --frozen-mode eval"
        ) from error


@contextmanager
def seeded(device: torch.device, *seeds: int) -> Iterator[None]:
    """Draw from generators that ``seeds`` fix inside of the block, and leave the global ones as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int(np.random.SeedSequence(seeds).generate_state(1)[0]))
        yield
