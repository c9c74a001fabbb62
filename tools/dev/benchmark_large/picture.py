"""A picture of the seams that tiles leave."""

import cv2
import numpy as np
from dev.benchmark_large.accuracy import pixels_of
from dev.benchmark_large.ways import Way, label_all, predict
from dev.demo_data.scenes import draw_large_scene

from xcit_dense.predict.drawing import below_caption, draw_prediction
from xcit_dense.predict.predictor import Predictor
from xcit_dense.predict.results import SegmentationMap

_SHOWN, _SCALE = 3, 2  # tiles a side, and size of pixels


def draw_seams(predictor: Predictor, context: int, side: int) -> np.ndarray:
    """The part of a large scene where tiles without overlap and a context differ most.

    Returns:
        the image, and labels by both, uint8 (H, W, 3) in blue, green, red.
    """
    length = 8 * context
    scene = draw_large_scene(np.random.default_rng(0), length, length, side)
    ways = {"tiles without overlap": Way(None, context), "context, no tiles": Way(context)}
    found = {
        name: label_all(predict(predictor, pixels_of(scene), way, 4), length, length)
        for name, way in ways.items()
    }
    one, other = found.values()
    shown = _SHOWN * context
    differing = cv2.boxFilter((one != other).astype(np.float32), -1, (shown, shown), anchor=(0, 0))
    place = differing[: length - shown + 1, : length - shown + 1]
    top, left = np.unravel_index(place.argmax(), place.shape)
    part = np.s_[top : top + shown, left : left + shown]
    image = np.ascontiguousarray(scene.image[part][..., ::-1])
    panels = [below_caption(image, "a part of a large scene")]
    for name, labels in found.items():
        drawn = draw_prediction(image, SegmentationMap(labels[part]), predictor.categories)
        panels.append(below_caption(drawn, name))
    return np.hstack(panels)
