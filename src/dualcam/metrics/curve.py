"""The area under a curve of probabilities."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def area_under_steps(probabilities: ArrayLike) -> NDArray[np.float64]:
    """Return the area, [...], under probabilities [..., S + 1] at the shares 0, 1/S, ..., 1 of pixels: trapezoids.

    In [0, 1] for probabilities; as in RISE (Petsiuk et al., BMVC 2018), whose sum leaves out half of both ends.
    """
    curve = np.asarray(probabilities, np.float64)
    return np.asarray((curve[..., 1:] + curve[..., :-1]).mean(-1) / 2)
