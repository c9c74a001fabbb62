"""Random textures and colours."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.random import Generator

GROUNDS = ("noise", "gradient", "stripes", "checker", "speckle")
FILLS = ("plain", "noise", "gradient", "stripes", "speckle")


def random_texture(rng: Generator, kinds: Sequence[str], height: int, width: int) -> np.ndarray:
    """A field of one of the kinds that mixes two colours, float32 (height, width) in [0, 1]."""
    rows, columns = np.mgrid[:height, :width].astype(np.float32)

    def distance(angle: float) -> np.ndarray:
        return np.float32(np.cos(angle)) * columns + np.float32(np.sin(angle)) * rows

    def waves(angle: float, period: float) -> np.ndarray:
        return np.sin(2 * np.pi / period * distance(angle))

    def random_period() -> float:
        return rng.uniform(0.06, 0.18) * min(height, width)

    match kinds[rng.integers(len(kinds))]:
        case "noise":
            return noise(rng, height, width)
        case "gradient":
            return _to_unit_range(distance(rng.uniform(0, 2 * np.pi)))
        case "stripes":
            return np.clip(0.5 + 2 * waves(rng.uniform(0, np.pi), random_period()), 0, 1)
        case "checker":
            angle, period = rng.uniform(0, np.pi / 2), 1.5 * random_period()
            squares = waves(angle, period) * waves(angle + np.pi / 2, period)
            return np.clip(0.5 + 2 * squares, 0, 1)
        case "speckle":
            dots = rng.random((height, width), dtype=np.float32) < rng.uniform(0.02, 0.06)
            soft = cv2.GaussianBlur(dots.astype(np.float32), (0, 0), sigmaX=rng.uniform(0.8, 1.4))
            return np.minimum(1, 4 * soft)
    return np.zeros((height, width), np.float32)


def noise(rng: Generator, height: int, width: int) -> np.ndarray:
    """Smooth clouds, float32 (height, width) in [0, 1]: two octaves of coarse random grids."""
    clouds = np.zeros((height, width), np.float32)
    for cells, strength in ((4, 1.0), (10, 0.4)):
        grid = rng.random((cells, cells), dtype=np.float32)
        clouds += strength * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    return _to_unit_range(clouds)


def _to_unit_range(field: np.ndarray) -> np.ndarray:
    return (field - field.min()) / max(float(np.ptp(field)), 1e-6)


def random_colour(rng: Generator) -> np.ndarray:
    """Any colour but the darkest and the lightest, RGB, float32 (3,) in [0, 255]."""
    return rng.uniform(15, 245, (64, 3)).astype(np.float32)[0]


def colour_near(
    rng: Generator, near: np.ndarray, within: float, avoid: Sequence[np.ndarray] = ()
) -> np.ndarray:
    """Of 64 random colours the one that is best within reach of one and 45 away from others.

    Distances are those of CIE Lab, where 2 is just visible and black to white is 100.
    """
    rng.uniform(size=(64, 3))  # drawn and not used: the images of a seed stay what they were
    candidates = np.clip(near + rng.normal(0, 45, (64, 3)), 8, 247).astype(np.float32)
    shortfall = np.maximum(0, _distances(candidates, near) - within)
    for colour in avoid:
        shortfall = np.maximum(shortfall, 45 - _distances(candidates, colour))
    return candidates[int(np.argmin(shortfall))]


def _distances(colours: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """CIE Lab distances (N,) of RGB colours (N, 3) in [0, 255] from a colour (3,)."""
    both = np.vstack([colours, reference]).astype(np.float32) / 255
    lab = cv2.cvtColor(both[None], cv2.COLOR_RGB2LAB)[0]
    return np.linalg.norm(lab[:-1] - lab[-1], axis=1)
