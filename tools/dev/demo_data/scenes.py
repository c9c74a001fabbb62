"""Random scenes: coloured shapes over a textured background, with exact masks."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from dev.demo_data.mask_outlines import has_hole, mask_to_polygons
from dev.demo_data.shapes import (
    CATEGORIES,
    TYPICAL_COLOURS,
    coverage,
    outline,
    outline_area,
)
from dev.demo_data.textures import (
    blend,
    muted,
    noise,
    random_background,
    random_colour,
    random_fill,
)

MOST_OBJECTS = 4
LEAST_VISIBLE = 0.4

_SCALES = (0.3, 0.6)
_CROWD_SCALES = (0.05, 0.08)
_SMALLEST_RADIUS = 4.0
_SMALLEST_CROWD_RADIUS = 1.5
_SMALLEST_VISIBLE_AREA = 16
_CONTRAST = 45.0
_TEXTURE_CONTRAST = 25.0
_STRAY = 45.0
_ATTEMPTS = 20


@dataclass(frozen=True)
class Instance:
    """One annotated object, or one crowd.

    Attributes:
        category: index into ``CATEGORIES``.
        polygons: outlines of the visible part, each (points, 2) as float x, y in pixels.
        mask: the visible part, bool (H, W).
        iscrowd: whether it is a cluster of many tiny shapes, which is to be ignored.
    """

    category: int
    polygons: tuple[np.ndarray, ...]
    mask: np.ndarray
    iscrowd: bool = False


@dataclass(frozen=True)
class Scene:
    """An image, uint8 RGB (H, W, 3), and what is on it; masks of instances do not overlap."""

    image: np.ndarray
    instances: tuple[Instance, ...]


@dataclass(frozen=True)
class _Sketch:
    """An object before it is coloured: where it would lie if nothing covered it."""

    category: int
    alpha: np.ndarray
    whole_area: float
    iscrowd: bool

    @property
    def mask(self) -> np.ndarray:
        return self.alpha >= 0.5


def draw_scene(
    rng: np.random.Generator,
    height: int,
    width: int,
    *,
    num_objects: int | None = None,
    with_crowd: bool = False,
) -> Scene:
    """Draws a random scene.

    Args:
        rng: source of chance; the same state gives the same scene.
        height: rows of the image, at least 16.
        width: columns of the image, at least 16.
        num_objects: how many objects to try to place, or None for a random number of 1 to 4.
            Fewer are placed where there is no room: each keeps 40 % of itself visible.
        with_crowd: whether to add a crowd, beneath the other objects.

    Returns:
        The scene; its instances are ordered from the lowest to the topmost.

    Raises:
        ValueError: if the image is smaller than 16 pixels or the number of objects is negative.
    """
    if min(height, width) < 16:
        raise ValueError(f"a scene needs at least 16 x 16 pixels, not {height} x {width}")
    if num_objects is None:
        num_objects = int(rng.integers(1, MOST_OBJECTS + 1))
    if num_objects < 0:
        raise ValueError(f"the number of objects may not be negative, but is {num_objects}")

    sketches = _arrange(rng, height, width, num_objects, with_crowd)
    image = _paint(rng, sketches, height, width)
    visible = _visible_masks(sketches)
    instances = tuple(
        Instance(sketch.category, mask_to_polygons(mask), mask, sketch.iscrowd)
        for sketch, mask in zip(sketches, visible, strict=True)
    )
    return Scene(image, instances)


def _arrange(
    rng: np.random.Generator, height: int, width: int, num_objects: int, with_crowd: bool
) -> list[_Sketch]:
    """Places the crowd and the objects, later ones above earlier ones."""
    sketches = [_sketch_crowd(rng, height, width)] if with_crowd else []
    for _ in range(num_objects):
        for _ in range(_ATTEMPTS):
            candidate = _sketch_object(rng, height, width)
            if _all_recognisable([*sketches, candidate]):
                sketches.append(candidate)
                break
    return sketches


def _sketch_object(rng: np.random.Generator, height: int, width: int) -> _Sketch:
    category = int(rng.integers(len(CATEGORIES)))
    centre = (rng.uniform(0, width), rng.uniform(0, height))
    radius = max(rng.uniform(*_SCALES) * min(height, width) / 2, _SMALLEST_RADIUS)
    corners = outline(CATEGORIES[category], centre, radius, rng.uniform(0, 2 * np.pi))
    return _Sketch(category, coverage([corners], height, width), outline_area(corners), False)


def _sketch_crowd(rng: np.random.Generator, height: int, width: int) -> _Sketch:
    """Scatters tiny shapes of one category over a patch in the inner part of the image."""
    category = int(rng.integers(len(CATEGORIES)))
    side = min(height, width)
    middle = np.array([rng.uniform(0.3, 0.7) * width, rng.uniform(0.3, 0.7) * height])
    corners = []
    for _ in range(int(rng.integers(15, 25))):
        centre = middle + rng.uniform(-0.22, 0.22, 2) * side
        radius = max(rng.uniform(*_CROWD_SCALES) * side / 2, _SMALLEST_CROWD_RADIUS)
        angle = rng.uniform(0, 2 * np.pi)
        corners.append(outline(CATEGORIES[category], tuple(centre), radius, angle))
    alpha = coverage(corners, height, width)
    return _Sketch(category, alpha, float((alpha >= 0.5).sum()), True)


def _all_recognisable(sketches: list[_Sketch]) -> bool:
    """Tells whether enough of every object shows, and none has a hole, which polygons lack."""
    for sketch, mask in zip(sketches, _visible_masks(sketches), strict=True):
        if mask.sum() < max(LEAST_VISIBLE * sketch.whole_area, _SMALLEST_VISIBLE_AREA):
            return False
        if not sketch.iscrowd and has_hole(mask):
            return False
    return True


def _visible_masks(sketches: list[_Sketch]) -> list[np.ndarray]:
    """Returns for each sketch, lowest first, the mask (H, W) that later ones leave of it."""
    visible: list[np.ndarray] = []
    for sketch in sketches:
        visible = [mask & ~sketch.mask for mask in visible]
        visible.append(sketch.mask)
    return visible


def _paint(
    rng: np.random.Generator, sketches: list[_Sketch], height: int, width: int
) -> np.ndarray:
    """Paints background, objects with their shadows, light and grain: uint8 RGB (H, W, 3)."""
    ground = muted(random_colour(rng), rng.uniform(0.3, 0.7))
    ground_companion = random_colour(rng, near=ground, maximum_distance=_TEXTURE_CONTRAST)
    image = blend(random_background(rng, height, width), ground, ground_companion)
    used = [ground, ground_companion]
    for sketch in sketches:
        # A category has a typical colour, from which objects stray: the shape still decides.
        colour = random_colour(
            rng,
            avoid=used,
            minimum_distance=_CONTRAST,
            near=np.float32(TYPICAL_COLOURS[sketch.category]),
            maximum_distance=_STRAY,
        )
        companion = random_colour(
            rng,
            avoid=used,
            minimum_distance=_CONTRAST,
            near=colour,
            maximum_distance=_TEXTURE_CONTRAST,
        )
        image = _add_shadow(rng, image, sketch.alpha)
        fill = blend(random_fill(rng, height, width), colour, companion)
        image = image + sketch.alpha[..., None] * (fill - image)
        used.append(colour)
    light = 0.88 + 0.24 * noise(rng, height, width)[..., None]
    grain = rng.normal(0, rng.uniform(1, 4), (height, width, 3))
    return np.clip(np.rint(image * light + grain), 0, 255).astype(np.uint8)


def _add_shadow(rng: np.random.Generator, image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Darkens the image (H, W, 3) a little beside the object, as if it lay slightly above."""
    reach = 0.012 * min(alpha.shape)
    offset_x, offset_y = rng.uniform(-reach, reach, 2)
    moved = cv2.warpAffine(
        alpha, np.float32([[1, 0, offset_x], [0, 1, offset_y]]), alpha.shape[::-1]
    )
    shadow = cv2.GaussianBlur(moved, (0, 0), sigmaX=max(reach, 0.5))
    return image * (1 - 0.35 * shadow[..., None])
