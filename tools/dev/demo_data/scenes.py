"""Random scenes: coloured shapes over a textured ground, with exact masks."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from dev.demo_data.textures import FILLS, GROUNDS, colour_near, noise, random_colour, random_texture
from numpy.random import Generator

CATEGORIES = ("circle", "square", "triangle", "star", "cross")
# in RGB: a shape's colour strays from that of its category, so that it helps and is not enough
TYPICAL_COLOURS = ((225, 60, 60), (50, 110, 225), (60, 180, 75), (240, 200, 50), (150, 50, 190))
LEAST_VISIBLE = 0.4  # share of a shape that those above it leave


@dataclass(frozen=True)
class Shape:
    """A shape, or a crowd of tiny ones, as if nothing lay over it."""

    category: int  # index into CATEGORIES
    coverage: np.ndarray  # which share of each pixel it covers, float32 (H, W) in [0, 1]
    area: float  # in pixels; of a single shape also what lies outside the image
    iscrowd: bool = False  # a crowd is to be ignored


@dataclass(frozen=True)
class Scene:
    """An image, uint8 RGB (H, W, 3), its shapes, and what is visible of each, bool (H, W)."""

    image: np.ndarray
    shapes: list[Shape]
    masks: list[np.ndarray]


def draw_scene(
    rng: Generator, height: int, width: int, empty: bool = False, crowded: bool = False
) -> Scene:
    """Draw 1 to 4 shapes, or none if empty, later ones above, with a crowd below if crowded."""
    number = 0 if empty else int(rng.integers(1, 5))
    shapes = [_crowd(rng, height, width)] if crowded else []
    for _ in range(number):
        _add_shape(rng, shapes, height, width, min(height, width))
    return Scene(_paint(rng, shapes, height, width), shapes, _visible_masks(shapes))


def draw_large_scene(rng: Generator, height: int, width: int, side: int) -> Scene:
    """Draw one scene, of one ground and one light, with what scenes of ``side`` pixels have.

    Shapes and textures are as large as theirs, and there are as many shapes to the area.
    """
    shapes: list[Shape] = []
    for _ in range(rng.integers(1, 5, max(1, round(height * width / side**2))).sum()):
        _add_shape(rng, shapes, height, width, side)
    return Scene(_paint(rng, shapes, height, width, side), shapes, _visible_masks(shapes))


def draw_side_by_side(rng: Generator, height: int, width: int, side: int) -> Scene:
    """Draw scenes of ``side`` pixels side by side; their grid begins anywhere.

    What the border of the image leaves too little of is a crowd, and to be ignored.
    """
    top, left = rng.integers(side, size=2)
    image = np.empty((height + 2 * side, width + 2 * side, 3), np.uint8)
    shapes, masks = [], []
    for row in range(0, top + height, side):
        for column in range(0, left + width, side):
            scene = draw_scene(rng, side, side)
            image[row : row + side, column : column + side] = scene.image
            for shape, mask in zip(scene.shapes, scene.masks, strict=True):
                around = ((row, height + side - row), (column, width + side - column))
                placed, coverage = (
                    np.pad(part, around)[top : top + height, left : left + width]
                    for part in (mask, shape.coverage)
                )
                if placed.any():
                    iscrowd = placed.sum() < LEAST_VISIBLE * mask.sum()
                    shapes.append(replace(shape, coverage=coverage, iscrowd=iscrowd))
                    masks.append(placed)
    return Scene(image[top : top + height, left : left + width].copy(), shapes, masks)


def _add_shape(rng: Generator, shapes: list[Shape], height: int, width: int, side: int) -> None:
    for _ in range(20):  # attempts to find a place
        candidate = _shape(rng, height, width, side)
        if _are_recognizable([*shapes, candidate]):
            shapes.append(candidate)
            break


def _shape(rng: Generator, height: int, width: int, side: int) -> Shape:
    category = int(rng.integers(len(CATEGORIES)))
    centre = (rng.uniform(0, width), rng.uniform(0, height))
    radius = max(rng.uniform(0.3, 0.6) * side / 2, 4.0)
    corners = _outline(category, centre, radius, rng.uniform(0, 2 * np.pi))
    area = cv2.contourArea(corners.astype(np.float32))
    return Shape(category, _coverage([corners], height, width), area)


def _crowd(rng: Generator, height: int, width: int) -> Shape:
    """Tiny shapes of one category, scattered over a patch in the inner part of the image."""
    category = int(rng.integers(len(CATEGORIES)))
    side = min(height, width)
    middle = np.array([rng.uniform(0.3, 0.7) * width, rng.uniform(0.3, 0.7) * height])
    outlines = []
    for _ in range(int(rng.integers(15, 25))):
        centre = middle + rng.uniform(-0.22, 0.22, 2) * side
        radius = max(rng.uniform(0.05, 0.08) * side / 2, 1.5)
        outlines.append(_outline(category, centre, radius, rng.uniform(0, 2 * np.pi)))
    coverage = _coverage(outlines, height, width)
    return Shape(category, coverage, float((coverage >= 0.5).sum()), iscrowd=True)


def _outline(category: int, centre: Sequence[float], radius: float, angle: float) -> np.ndarray:
    """Corners (points, 2) as x, y in pixels, where pixel i covers the interval [i, i + 1]."""
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return _UNIT_OUTLINES[category] @ rotation * radius + np.asarray(centre)


def _coverage(outlines: Sequence[np.ndarray], height: int, width: int) -> np.ndarray:
    canvas = np.zeros((height * 4, width * 4), np.uint8)
    for corners in outlines:
        # OpenCV counts from pixel centres, outlines from the upper left corner of a pixel
        cv2.fillPoly(canvas, [np.rint(corners * 4 - 0.5).astype(np.int32)], 255)
    return cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA) / np.float32(255)


def _visible_masks(shapes: Sequence[Shape]) -> list[np.ndarray]:
    visible: list[np.ndarray] = []
    for shape in shapes:
        mask = shape.coverage >= 0.5
        left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
        place = np.s_[top : top + height, left : left + width]
        for lower in visible:
            lower[place] &= ~mask[place]
        visible.append(mask)
    return visible


def _are_recognizable(shapes: Sequence[Shape]) -> bool:
    """Whether enough of each is visible, and none has a hole, which COCO's polygons lack."""
    return all(
        mask.sum() >= max(LEAST_VISIBLE * shape.area, 16) and (shape.iscrowd or not has_hole(mask))
        for shape, mask in zip(shapes, _visible_masks(shapes), strict=True)
    )


def has_hole(mask: np.ndarray) -> bool:
    """Whether a mask, bool (H, W), encloses a region that does not belong to it."""
    _, hierarchy = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    return hierarchy is not None and bool((hierarchy[0, :, 3] >= 0).any())


def _paint(
    rng: Generator, shapes: Sequence[Shape], height: int, width: int, side: int | None = None
) -> np.ndarray:
    """Paint ground, shapes with their shadows, light and grain: uint8 RGB (H, W, 3).

    Textures are those of a scene of ``side`` pixels, mirrored to fill a larger one.
    """
    drawn = (side or height, side or width)

    def filling(field: np.ndarray) -> np.ndarray:
        missing = [
            (0, of_image - length) for of_image, length in zip((height, width), drawn, strict=True)
        ]
        return np.pad(field, missing, "symmetric")[..., None]

    vivid, saturation = random_colour(rng), rng.uniform(0.3, 0.7)
    ground = (vivid.mean() + saturation * (vivid - vivid.mean())).astype(np.float32)
    companion = colour_near(rng, ground, 25)
    texture = filling(random_texture(rng, GROUNDS, *drawn))
    image = ground + texture * (companion - ground)
    used = [ground, companion]
    for shape in shapes:
        typical = np.float32(TYPICAL_COLOURS[shape.category])
        avoided = used[:2] + used[2:][-4:]
        colour = colour_near(rng, typical, 45, avoid=avoided)
        companion = colour_near(rng, colour, 25, avoid=avoided)
        image = _with_shadow(rng, image, shape.coverage, min(drawn))
        texture = filling(random_texture(rng, FILLS, *drawn))
        fill = colour + texture * (companion - colour)
        image = image + shape.coverage[..., None] * (fill - image)
        used.append(colour)
    light = 0.88 + 0.24 * filling(noise(rng, *drawn))
    grain = rng.normal(0, rng.uniform(1, 4), (height, width, 3))
    return np.clip(np.rint(image * light + grain), 0, 255).astype(np.uint8)


def _with_shadow(rng: Generator, image: np.ndarray, coverage: np.ndarray, side: int) -> np.ndarray:
    """Darken the image a little beside a shape, as if it lay slightly above."""
    reach = 0.012 * side
    x, y = rng.uniform(-reach, reach, 2)
    moved = cv2.warpAffine(coverage, np.float32([[1, 0, x], [0, 1, y]]), coverage.shape[::-1])
    shadow = cv2.GaussianBlur(moved, (0, 0), sigmaX=max(reach, 0.5))
    return image * (1 - 0.35 * shadow[..., None])


def _at_equal_angles(points: int, radii: Sequence[float] = (1.0,)) -> np.ndarray:
    angles = 2 * np.pi * np.arange(points) / points - np.pi / 2
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.resize(radii, points)[:, None]


# in the unit circle, one a category
_N, _F = 0.3, np.sqrt(1 - 0.3**2)  # near and far: half a cross's width and length
_UNIT_OUTLINES = (
    _at_equal_angles(64),
    _at_equal_angles(4),
    _at_equal_angles(3),
    _at_equal_angles(10, radii=(1.0, 0.42)),
    np.array([(-_N, -_F), (_N, -_F), (_N, -_N), (_F, -_N), (_F, _N), (_N, _N),
              (_N, _F), (-_N, _F), (-_N, _N), (-_F, _N), (-_F, -_N), (-_N, -_N)]),
)  # fmt: skip
