"""Polygons from masks, and a test for holes, which polygons cannot express."""

from __future__ import annotations

import cv2
import numpy as np

_MAGNIFICATION = 4
_TOLERANCE = 0.5
_SMALLEST_AREA = 1.0


def mask_to_polygons(mask: np.ndarray) -> tuple[np.ndarray, ...]:
    """Traces the outer outlines of a mask.

    Args:
        mask: bool (H, W).

    Returns:
        One polygon (points, 2) for each connected part of at least one pixel's area, as float
        x, y in pixels, where pixel i covers the interval [i, i + 1]. Holes are filled.
    """
    magnified = np.kron(mask.astype(np.uint8), np.ones((_MAGNIFICATION,) * 2, np.uint8))
    contours, _ = cv2.findContours(magnified, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    polygons = []
    for contour in contours:
        simple = cv2.approxPolyDP(contour, _TOLERANCE * _MAGNIFICATION, closed=True)
        # A contour runs through pixel centres; the magnification makes the loss an eighth pixel.
        polygon = (simple.reshape(-1, 2).astype(np.float64) + 0.5) / _MAGNIFICATION
        if len(polygon) >= 3 and cv2.contourArea(polygon.astype(np.float32)) >= _SMALLEST_AREA:
            polygons.append(polygon)
    return tuple(polygons)


def has_hole(mask: np.ndarray) -> bool:
    """Tells whether a mask, bool (H, W), encloses a region that does not belong to it."""
    _, hierarchy = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    return hierarchy is not None and bool((hierarchy.reshape(-1, 4)[:, 3] >= 0).any())
