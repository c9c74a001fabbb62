"""A picture of the seams that tiles leave."""

import cv2
import numpy as np
from dev.benchmark_large.accuracy import SIDE, pixels_of
from dev.benchmark_large.ways import Way, label_all, predict
from dev.demo_data.data_set import BACKGROUND, label_map
from dev.demo_data.scenes import draw_large_scene

from xcit_dense.predict.drawing import below_caption
from xcit_dense.predict.predictor import Predictor

_TILES, _SHOWN = 8, 3  # sides of the scene and of the part that is shown


def draw_seams(predictor: Predictor, tile: int) -> np.ndarray:
    """The part of a large scene where tiles without overlap are wrong most, and a context is right.

    Returns:
        the image, and labels by both, uint8 (H, W, 3) in blue, green, red.
    """
    length, shown = _TILES * tile, _SHOWN * tile
    scene = draw_large_scene(np.random.default_rng(0), length, length, SIDE)
    truth = label_map(scene) - BACKGROUND
    ways = Way(None, tile), Way(tile)
    by_tiles, by_context = (
        label_all(predict(predictor, pixels_of(scene), way, 8), length, length) for way in ways
    )
    worse = (by_tiles != truth).astype(np.float32) - (by_context != truth)
    sums = cv2.boxFilter(worse, -1, (shown, shown), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
    left_out = length - shown + 1
    top, left = np.unravel_index(sums[:left_out, :left_out].argmax(), (left_out, left_out))
    part = np.s_[top : top + shown, left : left + shown]
    colours = np.array(predictor.categories.palette, np.uint8)
    panels = {
        f"a part of {length} x {length} pixels": scene.image[part],
        f"labels by tiles of {tile} pixels": colours[by_tiles[part]],
        f"labels by a stream, context {tile}": colours[by_context[part]],
    }
    return np.hstack(
        [below_caption(np.ascontiguousarray(p[..., ::-1]), c) for c, p in panels.items()]
    )
