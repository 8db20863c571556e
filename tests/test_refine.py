"""The guided filter: its laws, and an obvious implementation beside it."""

import numpy as np
from numpy.typing import NDArray

from dualcam.refine import guided_filter, make_guide, refine


def slow_filter(
    values: NDArray[np.float64], photo: NDArray[np.float64], radius: int, epsilon: float
) -> NDArray[np.float64]:
    """Equations 14 to 16 window by window, borders reflected."""
    pad = ((2 * radius, 2 * radius), (2 * radius, 2 * radius))
    wide, level = np.pad(photo, (*pad, (0, 0)), mode="symmetric"), np.pad(values, pad, mode="symmetric")
    height, width = level.shape
    slopes = np.zeros((height, width, 3))
    offsets = np.zeros((height, width))
    for y in range(radius, height - radius):
        for x in range(radius, width - radius):
            window = (slice(y - radius, y + radius + 1), slice(x - radius, x + radius + 1))
            colors, target = wide[window].reshape(-1, 3), level[window].ravel()
            mean = colors.mean(0)
            spread = (colors - mean).T @ (colors - mean) / len(colors) + epsilon * np.eye(3)
            slopes[y, x] = np.linalg.solve(spread, ((colors - mean) * target[:, None]).mean(0))
            offsets[y, x] = target.mean() - slopes[y, x] @ mean
    found = np.zeros(values.shape)
    for y in range(values.shape[0]):
        for x in range(values.shape[1]):
            window = (slice(y + radius, y + 3 * radius + 1), slice(x + radius, x + 3 * radius + 1))
            found[y, x] = slopes[window].reshape(-1, 3).mean(0) @ photo[y, x] + offsets[window].mean()
    return found


def scene(seed: int = 0, size: int = 12) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    generator = np.random.default_rng(seed)
    return generator.random((size, size, 3), dtype=np.float32), generator.normal(size=(size, size)).astype(np.float32)


def test_it_is_the_papers_filter() -> None:
    photo, values = scene()
    found = guided_filter(values, make_guide(photo, radius=2, epsilon=0.01))
    expected = slow_filter(values.astype(float), photo.astype(float), 2, 0.01)
    inner = (slice(2, -2), slice(2, -2))  # the border's windows are reflected in two ways
    np.testing.assert_allclose(found[inner], expected[inner], atol=2e-4)


def test_it_is_linear_and_keeps_constants() -> None:
    photo, first = scene(1)
    _, second = scene(2)
    guide = make_guide(photo, radius=3)
    both = guided_filter(2 * first - second, guide)
    np.testing.assert_allclose(both, 2 * guided_filter(first, guide) - guided_filter(second, guide), atol=1e-4)
    np.testing.assert_allclose(refine(np.full((12, 12), 3.5, np.float32), guide), 3.5, atol=1e-4)


def test_a_blurred_map_gets_the_photos_edge() -> None:
    photo = np.zeros((56, 56, 3), np.float32)
    photo[:, 28:] = (0.9, 0.4, 0.1)
    ramp = np.tile(np.clip((np.arange(56) - 16) / 24, 0, 1), (56, 1)).astype(np.float32)
    sharp = refine(ramp, make_guide(photo))
    assert np.abs(np.diff(sharp[28]))[27] > 5 * np.abs(np.diff(ramp[28]))[27]
    flat = refine(ramp, make_guide(np.full((56, 56, 3), 0.5, np.float32)))
    assert np.abs(np.diff(flat[28])).max() <= np.abs(np.diff(ramp[28])).max() + 1e-6
