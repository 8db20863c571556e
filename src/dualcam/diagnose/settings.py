"""The choices of a diagnosis, in one frozen record."""

from dataclasses import dataclass

from dualcam.errors import ChoiceError


@dataclass(frozen=True, kw_only=True)
class DiagnoseSettings:
    """What is measured, and how."""

    method: str | None = None
    """The CAM method (default: cam where the head is linear, else grad-cam)."""

    sizes: tuple[float, ...] = (0.1, 0.3, 1.0)
    """Sizes of the planted shifts, as shares of a class row's norm."""

    draws: int = 4
    """Shifts of each size, drawn by seed."""

    views: int = 4
    """Views of each photo that the retraining sees: the whole photo, and crops."""

    threshold: float = 0.2
    """Boxes surround what lies above this share of the map's maximum."""

    seed: int = 0
    """Seed of shifts, crops, sample and random starts."""

    def __post_init__(self) -> None:
        if not self.sizes or any(not 0 < size <= 100 for size in self.sizes):
            raise ChoiceError(f"--sizes are shares of a row's norm in (0, 100]; got {list(self.sizes)}")
        if self.draws < 1 or self.views < 1:
            raise ChoiceError(f"--draws and --views must be at least 1; got {self.draws} and {self.views}")
        if not 0 <= self.threshold < 1:
            raise ChoiceError(f"--threshold must lie in [0, 1) of the map's maximum; got {self.threshold}")
