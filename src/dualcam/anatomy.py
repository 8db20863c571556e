"""The parts of a classifier, and what is seen and proposed on the way to them."""

from dataclasses import dataclass

from torch import Tensor, nn

from dualcam.adapter import Adapter
from dualcam.cells import Cells, cells_of, fits
from dualcam.heads import GLUE, Head
from dualcam.recording import Recording
from dualcam.types import Layout


@dataclass(frozen=True)
class Anatomy:
    """The parts of a classifier.

    ``layer`` is the module path whose output, brought to a grid by ``cells`` and through ``post`` (a functional
    activation the model applies to it, or None), is F. ``head`` maps F to logits and shares its modules with the
    classifier; where it is of kind "tail" it maps the inputs of the modules ``readers``, the last layers, instead.
    ``nonnegative`` says whether F >= 0, so that a positive weight means positive evidence. ``can_stop_early`` says
    whether F is complete when the layer returns: an in-place activation after it (DenseNet's) is lost otherwise.
    """

    layer: str
    cells: Cells
    post: str | None
    head: Head
    channels: int
    nonnegative: bool
    can_stop_early: bool = False
    readers: tuple[str, ...] = ()

    @property
    def grid(self) -> tuple[int, int]:
        """Cells (h, w) of an input of the size that the model was wrapped for."""
        return self.cells.grid

    @property
    def layout(self) -> Layout:
        """The axes of the tapped layer's output."""
        return self.cells.layout

    def to_activations(self, output: Tensor, size: tuple[int, int]) -> Tensor:
        """Return F [B, D, h, w] of the tapped layer's output for an input of ``size`` (H, W)."""
        activations = self.cells.take(output, size)
        return GLUE[self.post](activations) if self.post else activations


@dataclass(frozen=True)
class Probe:
    """A recorded forward on noise, and what was asked for: what the family finders read."""

    model: nn.Module
    adapter: Adapter
    image: Tensor
    recording: Recording
    logits: Tensor
    layout: Layout | None = None
    grid: tuple[int, int] | None = None

    @property
    def classes(self) -> int:
        """Number of classes C."""
        return self.logits.shape[1]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the input."""
        return self.image.shape[-2], self.image.shape[-1]

    def cells_of(self, output: Tensor) -> Cells | None:
        """Return where cells lie in ``output``, or None; grids of feature maps seen in the forward help with tokens."""
        maps = [shape[2:] for shape in reversed(self.recording.shapes) if len(shape) == 4]
        known = [(shape[0], shape[1]) for shape in dict.fromkeys(maps) if fits(shape[0], shape[1], self.size)]
        return cells_of(output.shape, self.size, layout=self.layout, grid=self.grid, known=known)


@dataclass(frozen=True)
class Found:
    """What a family finder proposes.

    The tapped layer's path, its output, where its cells lie, and the chain of steps to the logits: from F, or, with
    ``readers`` (the last layers' paths), from those layers' inputs ``features``.
    """

    layer: str
    output: Tensor
    cells: Cells
    post: str | None
    steps: tuple[nn.Module | str, ...]
    readers: tuple[str, ...] = ()
    features: Tensor | None = None
