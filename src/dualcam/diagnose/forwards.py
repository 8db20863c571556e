"""The photos' forwards, had again batch by batch: what every map of a diagnosis is made of."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from dualcam.explainer import Forward
from dualcam.guards import evaluating
from dualcam.model import DualBranch
from dualcam.types import Tapped

BATCH = 8


@dataclass(frozen=True)
class Forwards:
    """N photos as far as the maps of ``model`` need them.

    ``kept`` [N, ...] on the CPU, in the model's precision: the activations [N, D, h, w] where the heads read those. A
    head of kind "tail" reads what the model itself makes of them, with a graph that no memory holds for all photos: of
    its photos the images [N, 3, H, W] are kept, and run again.
    """

    model: DualBranch
    kept: Tensor

    def __len__(self) -> int:
        return len(self.kept)

    def batches(self) -> Iterator[tuple[slice, Tapped]]:
        """Yield the places of up to 8 photos, and their forward."""
        for start in range(0, len(self), BATCH):
            places = slice(start, start + BATCH)
            yield places, self.tapped(places)

    def tapped(self, places: slice) -> Tapped:
        """Return the forward of the photos at ``places``; linear heads get it in double precision on the CPU."""
        head, part = self.model.softmax_head, self.kept[places]
        if head.is_linear:
            return Tapped.of(part.double())
        part = part.to(self.model.device)
        if not head.reads_features:
            return Tapped.of(part)
        with evaluating(self.model):
            return self.model.tap(part)


def to_keep(model: DualBranch, forward: Forward) -> Tensor:
    """Return what `Forwards` keep of one: activations, or images, on the CPU."""
    return (forward.images(model) if model.softmax_head.reads_features else forward.activations).cpu()
