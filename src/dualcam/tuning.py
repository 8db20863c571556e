"""The numbers that some methods and scores take, in one record for all of them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any

from dualcam.errors import ChoiceError, check_whole


def _check(name: str, value: Any, least: float) -> None:
    if value is not None and (isinstance(value, str) or not least <= value <= float("inf")):
        raise ChoiceError(f"{name} must lie in [{least:g}, inf]; got {value!r}")


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """Numbers of methods and scores; None stands for the method's own default. Raises `ChoiceError` out of range."""

    top_k: int | None = None
    """Score-CAM, IS-CAM, SS-CAM: only the channels that vary most over the cells, this many (default: all)."""

    samples: int | None = None
    """Noisy images of Smooth Grad-CAM++ (default 8), noisy masks of SS-CAM (35), steps of IS-CAM (10)."""

    noise: float | None = None
    """Standard deviation of the noise: Smooth Grad-CAM++, as a share of the image's range (0.1); SS-CAM, of the mask,
    whose range is 1 (2)."""

    seed: int = 0
    """Seed of the noise."""

    blocks: int | None = None
    """LeGrad: the last blocks of the transformer, this many (default: all, as in the paper's formula)."""

    gamma: float = 0.6
    """Score finer: how much of the similar classes' logits is subtracted; 0 is the logit itself."""

    similar: int = 3
    """Score finer: how many similar classes the class is compared with."""

    def __post_init__(self) -> None:
        for name in ("top_k", "samples", "blocks", "similar"):
            if getattr(self, name) is not None:
                check_whole(name, getattr(self, name), 1)
        check_whole("seed", self.seed, -(2**63))
        _check("noise", self.noise, 0)
        _check("gamma", self.gamma, 0)


DEFAULTS = Tuning()


def make_tuning(given: "Tuning | Mapping[str, float | int | None] | None") -> Tuning:
    """Return ``given`` as a record; raises `ChoiceError` for a name that is none of its fields."""
    if isinstance(given, Tuning):
        return given
    values = dict(given or {})
    known = [field.name for field in fields(Tuning)]
    for name in values:
        if name not in known:
            raise ChoiceError(f"tuning has no {name!r}; it holds {', '.join(known)}")
    return Tuning(**values)  # type: ignore[arg-type]


def parse_tuning(text: str) -> Tuning:
    """Return the numbers of "top_k=64,noise=0.2" as a record; raises `ChoiceError`."""
    values: dict[str, float | int | None] = {}
    for item in filter(None, text.split(",")):
        name, _, number = item.partition("=")
        try:
            values[name.strip()] = float(number) if any(mark in number for mark in ".e") else int(number)
        except ValueError as error:
            raise ChoiceError(f"{item!r} is not NAME=NUMBER, as in top_k=64") from error
    return make_tuning(values)


def check_read(tuning: Tuning, read: Collection[str], readers: str) -> None:
    """Raise `ChoiceError` where ``tuning`` changes a number that ``readers``, who read ``read``, do not read."""
    for field in fields(Tuning):
        value = getattr(tuning, field.name)
        if value != field.default and field.name not in read:
            others = f"; they read {', '.join(sorted(read))}" if read else ""
            raise ChoiceError(f"{field.name}={value} is not read by {readers}{others}; leave it out")
