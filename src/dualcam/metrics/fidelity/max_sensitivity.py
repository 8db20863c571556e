"""Max-sensitivity: how far the map moves when the photo changes by less than anyone sees.

Yeh et al., NeurIPS 2019, definition 3, with the maximum over photos within the radius taken over a seeded sample, as
there; relative to the map's own size, as in captum, so that maps of different size can be compared.
"""

from numpy.typing import ArrayLike

from dualcam.metrics.fidelity import FidelityMetric, Measured
from dualcam.metrics.fidelity_settings import FidelitySettings
from dualcam.metrics.map_similarity import relative_distance
from dualcam.metrics.perturbations import NOISY


def max_sensitivity(heat: ArrayLike, noisy: ArrayLike) -> float:
    """Return max over noisy photos of ||M(x + noise) - M(x)|| / ||M(x)||, of maps [H, W] and [S, H, W].

    At least 0; lower is better, and by itself best for a map that never changes. Where M(x) is all zero the distance
    is not divided: 0 if all others are zero as well. A lower bound of the true maximum: it rises with the sample.
    """
    return float(relative_distance(noisy, heat).max())


def _score(measured: Measured, settings: FidelitySettings) -> float:
    return max_sensitivity(measured.heat, measured.maps[NOISY])


FIDELITY = FidelityMetric(
    name="max-sensitivity",
    title="Max-sensitivity",
    paper="Yeh et al., On the (In)fidelity and Sensitivity of Explanations, NeurIPS 2019",
    unit="fraction",
    better="lower",
    low=0,
    high=float("inf"),
    score=_score,
    explains=lambda settings: (NOISY,),
)
