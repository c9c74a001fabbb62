"""Outlines of the drawn shapes, and their rasters with smooth edges."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

CATEGORIES = ("circle", "square", "triangle", "star", "cross")
# RGB, one a category: red, blue, green, yellow, purple
TYPICAL_COLOURS = ((225, 60, 60), (50, 110, 225), (60, 180, 75), (240, 200, 50), (150, 50, 190))

_SUPERSAMPLING = 4


def outline(category: str, centre: tuple[float, float], radius: float, angle: float) -> np.ndarray:
    """Returns the corners of one shape.

    Args:
        category: one of ``CATEGORIES``.
        centre: x and y of the circumscribed circle's centre, in pixels.
        radius: radius of the circumscribed circle, in pixels.
        angle: rotation in radians.

    Returns:
        Corners (points, 2) as float x, y in pixels, where pixel i covers the interval [i, i + 1].

    Raises:
        ValueError: if the category is unknown.
    """
    if category not in CATEGORIES:
        raise ValueError(f"unknown category {category!r}; known are {', '.join(CATEGORIES)}")
    corners = _UNIT_OUTLINES[category]
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return corners @ rotation * radius + np.asarray(centre)


def outline_area(corners: np.ndarray) -> float:
    """Returns the area enclosed by corners (points, 2), in square pixels (shoelace formula)."""
    x, y = corners.T
    return 0.5 * abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1)))


def coverage(outlines: Sequence[np.ndarray], height: int, width: int) -> np.ndarray:
    """Returns which share of each pixel the union of the outlines covers.

    Args:
        outlines: corners (points, 2) of each shape, in pixels; parts outside the image are cut.
        height: rows of the image.
        width: columns of the image.

    Returns:
        Shares (height, width) as float32 between 0 and 1.
    """
    canvas = np.zeros((height * _SUPERSAMPLING, width * _SUPERSAMPLING), np.uint8)
    for corners in outlines:
        # OpenCV counts from pixel centres, our outlines from the upper left corner of a pixel.
        canvas_corners = np.rint(corners * _SUPERSAMPLING - 0.5).astype(np.int32)
        cv2.fillPoly(canvas, [canvas_corners], 255)
    return cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA) / np.float32(255)


def _regular(points: int, radii: Sequence[float] = (1.0,)) -> np.ndarray:
    """Returns points (points, 2) at equal angles, their distances cycling through the radii."""
    angles = 2 * np.pi * np.arange(points) / points - np.pi / 2
    distances = np.resize(np.asarray(radii), points)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * distances[:, None]


def _unit_cross(half_width: float = 0.3) -> np.ndarray:
    """Returns the twelve corners (12, 2) of a plus sign within the unit circle."""
    reach = np.sqrt(1 - half_width**2)
    arm = np.array([[-half_width, -half_width], [-half_width, -reach], [half_width, -reach]])
    quarter_turn = np.array([[0, 1], [-1, 0]])
    return np.concatenate([arm @ np.linalg.matrix_power(quarter_turn, turn) for turn in range(4)])


_UNIT_OUTLINES = {
    "circle": _regular(64),
    "square": _regular(4),
    "triangle": _regular(3),
    "star": _regular(10, radii=(1.0, 0.42)),
    "cross": _unit_cross(),
}
