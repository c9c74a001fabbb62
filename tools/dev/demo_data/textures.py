"""Random textures and colours for backgrounds and fills."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

FieldPainter = Callable[[np.random.Generator, int, int], np.ndarray]


def random_background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Returns a field (height, width) in [0, 1] of a random kind, for the whole image."""
    painters = (noise, gradient, stripes, checker, speckle)
    return painters[rng.integers(len(painters))](rng, height, width)


def random_fill(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Returns a field (height, width) in [0, 1] of a random kind, for one object."""
    painters = (plain, noise, gradient, stripes, speckle)
    return painters[rng.integers(len(painters))](rng, height, width)


def plain(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Returns a field of zeros."""
    del rng
    return np.zeros((height, width), np.float32)


def noise(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Returns smooth clouds: two octaves of coarse random grids."""
    clouds = np.zeros((height, width), np.float32)
    for cells, strength in ((4, 1.0), (10, 0.4)):
        grid = rng.random((cells, cells), dtype=np.float32)
        clouds += strength * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    return _to_unit_range(clouds)


def gradient(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Returns a linear ramp in a random direction."""
    return _to_unit_range(_distance_along(rng.uniform(0, 2 * np.pi), height, width))


def stripes(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Returns parallel bands with soft edges in a random direction."""
    return _soft_step(_wave(rng.uniform(0, np.pi), _period(rng, height, width), height, width))


def checker(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Returns a rotated chequered pattern with soft edges."""
    angle, period = rng.uniform(0, np.pi / 2), 1.5 * _period(rng, height, width)
    first = _wave(angle, period, height, width)
    second = _wave(angle + np.pi / 2, period, height, width)
    return _soft_step(first * second)


def speckle(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Returns soft dots scattered at random."""
    dots = (rng.random((height, width), dtype=np.float32) < rng.uniform(0.02, 0.06)).astype("f4")
    return np.minimum(1, 4 * cv2.GaussianBlur(dots, (0, 0), sigmaX=rng.uniform(0.8, 1.4)))


def blend(field: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Mixes two RGB colours (3,) by a field (H, W) in [0, 1] into an image (H, W, 3)."""
    return first + field[..., None] * (second - first)


def random_colour(
    rng: np.random.Generator,
    avoid: Sequence[np.ndarray] = (),
    minimum_distance: float = 0.0,
    near: np.ndarray | None = None,
    maximum_distance: float = np.inf,
    attempts: int = 64,
) -> np.ndarray:
    """Draws a colour that keeps its distance from some colours and stays close to another.

    Args:
        rng: source of chance.
        avoid: RGB colours (3,) from which to keep the minimum distance.
        minimum_distance: in units of CIE Lab (2 is just visible, black to white is 100).
        near: RGB colour (3,) from which to stay within the maximum distance.
        maximum_distance: in units of CIE Lab.
        attempts: how many random colours are looked at.

    Returns:
        RGB colour (3,) as float32 in [0, 255]; where none fits, the one that misses by least.
    """
    candidates = rng.uniform(15, 245, (attempts, 3)).astype(np.float32)
    if near is not None:
        candidates = np.clip(near + rng.normal(0, 45, (attempts, 3)), 8, 247).astype(np.float32)
    shortfall = np.zeros(attempts, np.float32)
    for colour in avoid:
        missing = minimum_distance - colour_distance(candidates, colour)
        shortfall = np.maximum(shortfall, missing)
    if near is not None:
        shortfall = np.maximum(shortfall, colour_distance(candidates, near) - maximum_distance)
    return candidates[int(np.argmin(shortfall))]


def muted(colour: np.ndarray, saturation: float) -> np.ndarray:
    """Moves an RGB colour (3,) towards the grey of its mean; a saturation of 1 keeps it."""
    return (colour.mean() + saturation * (colour - colour.mean())).astype(np.float32)


def colour_distance(colours: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Returns the CIE Lab distances (N,) of RGB colours (N, 3) in [0, 255] from a colour (3,)."""
    return np.linalg.norm(_lab(colours) - _lab(reference[None]), axis=1)


def _lab(colours: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(colours[None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0]


def _period(rng: np.random.Generator, height: int, width: int) -> float:
    return rng.uniform(0.06, 0.18) * min(height, width)


def _wave(angle: float, period: float, height: int, width: int) -> np.ndarray:
    return np.sin(2 * np.pi / period * _distance_along(angle, height, width))


def _distance_along(angle: float, height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    return np.float32(np.cos(angle)) * columns + np.float32(np.sin(angle)) * rows


def _soft_step(field: np.ndarray) -> np.ndarray:
    return np.clip(0.5 + 2 * field, 0, 1)


def _to_unit_range(field: np.ndarray) -> np.ndarray:
    return (field - field.min()) / max(float(np.ptp(field)), 1e-6)
