"""Every error a user can meet, as one tree.

    DualcamError                    catch this to catch them all
    ├── ModelError                  the classifier can not be used as asked
    │   ├── StructureNotFound       head or last spatial activations not found
    │   ├── WeightsUnavailable      weights are not on this machine (nothing is downloaded unasked)
    │   └── WeightsMismatch         a checkpoint was trained for other weights
    ├── MethodNotApplicable         the method's law does not hold for this head
    ├── ClassNotFound               no such class name or index
    ├── ChoiceError                 an argument outside its choices
    ├── DataError                   a dataset is not as expected
    │   └── PhotoError              one photo can not be read
    ├── CheckpointError             a run directory is incomplete, damaged or of other settings
    ├── ProcessLost                 another process of the run ended, or does not answer
    └── TrainingDiverged            the loss left the finite numbers or grew without end

A message says what was expected, what came, and the way out. The command line prints it and ends with exit code 2.
"""

from collections.abc import Iterable
from operator import index
from typing import Any


class DualcamError(Exception):
    """Base of all errors that dualcam raises on purpose."""


class ModelError(DualcamError):
    """The classifier can not be used as asked."""


class StructureNotFound(ModelError):
    """Head or last spatial activations of the classifier were not found."""


class WeightsUnavailable(ModelError):
    """The weights are not on this machine."""


class WeightsMismatch(ModelError):
    """The weights of a checkpoint belong to another backbone."""


class MethodNotApplicable(DualcamError):
    """The method's law does not hold for this kind of head."""


class ClassNotFound(DualcamError):
    """No class of that name or index."""


class ChoiceError(DualcamError, ValueError):
    """An argument outside of its choices."""


class DataError(DualcamError):
    """A dataset is not as expected."""


class PhotoError(DataError):
    """One photo can not be read."""


class CheckpointError(DualcamError):
    """A run directory is incomplete, damaged, or belongs to other settings."""


class ProcessLost(DualcamError):
    """Another process of the run ended, or does not answer."""


class TrainingDiverged(DualcamError):
    """The loss is not finite any more, or grew without end."""


def check_choice(argument: str, value: object, choices: Iterable[object]) -> None:
    """Raise `ChoiceError` naming the argument and its choices unless ``value`` is one of them."""
    options = list(choices)
    if value not in options:
        raise ChoiceError(f"{argument}={value!r} is not known; choose one of {', '.join(map(repr, options))}")


def check_whole(argument: str, value: Any, least: int) -> None:
    """Raise `ChoiceError` unless ``value`` is a whole number, of any integer type, of at least ``least``."""
    try:
        number = index(value)
    except TypeError as error:
        raise ChoiceError(f"{argument} must be a whole number; got {value!r}") from error
    if number < least:
        raise ChoiceError(f"{argument} must be at least {least}; got {number}")


def check_size(argument: str, value: Any) -> None:
    """Raise `ChoiceError` unless ``value`` is (height, width), two whole numbers of at least 1."""
    try:
        height, width = value
    except (TypeError, ValueError) as error:
        raise ChoiceError(f"{argument} must be (height, width); got {value!r}") from error
    for number in (height, width):
        check_whole(argument, number, 1)
