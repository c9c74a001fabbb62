"""Which scenes a generated data set is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass

import numpy as np
from dev.demo_data.scenes import Scene, draw_scene

SPLITS = ("train", "val")
SMALLEST_SPLIT = 3
SMALLEST_SIZE = 32

GENERATOR_VERSION = 1
"""To be raised with every change that draws other scenes from the same parameters."""

Progress = Callable[[Iterable[Scene], str, int], Iterable[Scene]]


@dataclass(frozen=True)
class Plan:
    """The parameters from which the same data set can be made again.

    Masks, boxes and polygons depend on them alone. The bytes of the JPEG files also depend on the
    version of OpenCV, whose encoder and blur round differently from release to release.

    Of 16 images one is empty and two have a crowd, starting with the second and third, so that
    every split of three or more has objects, an empty image and a crowd.

    Attributes:
        train: number of training images, at least 3.
        val: number of validation images, at least 3.
        size: longer side of the images in pixels, at least 32.
        seed: non-negative seed of all chance.
    """

    train: int = 400
    val: int = 60
    size: int = 192
    seed: int = 0

    def __post_init__(self) -> None:
        for split in SPLITS:
            if self.count(split) < SMALLEST_SPLIT:
                raise ValueError(
                    f"{split} must be at least {SMALLEST_SPLIT} images (one with objects, "
                    f"one without, one with a crowd), not {self.count(split)}"
                )
        if self.size < SMALLEST_SIZE:
            raise ValueError(f"size must be at least {SMALLEST_SIZE} pixels, not {self.size}")
        if self.seed < 0:
            raise ValueError(f"seed may not be negative, but is {self.seed}")

    def count(self, split: str) -> int:
        """Returns the number of images of ``'train'`` or ``'val'``."""
        return {"train": self.train, "val": self.val}[split]

    def record(self, layout: str) -> dict[str, object]:
        """Returns what a data set in the given layout depends on, ready for JSON."""
        return {"format": layout, "generator": GENERATOR_VERSION, **asdict(self)}

    def scene(self, split: str, index: int) -> Scene:
        """Draws one scene; it depends on seed, size, split and index, not on the counts."""
        rng = np.random.default_rng((self.seed, SPLITS.index(split), index))
        height, width = self._random_shape(rng)
        num_objects = 0 if index % 16 == 1 else None
        return draw_scene(rng, height, width, num_objects=num_objects, with_crowd=index % 8 == 2)

    def scenes(self, split: str) -> Iterator[Scene]:
        """Draws the scenes of one split, one after the other."""
        return (self.scene(split, index) for index in range(self.count(split)))

    def _random_shape(self, rng: np.random.Generator) -> tuple[int, int]:
        """Returns height and width: landscape or portrait, 6:5 or 4:3."""
        shorter = round(self.size * (5 / 6, 3 / 4)[rng.integers(2)])
        return (shorter, self.size) if rng.random() < 0.5 else (self.size, shorter)


def without_progress(scenes: Iterable[Scene], description: str, total: int) -> Iterable[Scene]:
    """Passes the scenes on and shows nothing: the silent default of the writers."""
    del description, total
    return scenes
