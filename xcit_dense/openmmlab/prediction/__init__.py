"""Predictions of trained models on a user's own images: reading, running, drawing, writing."""

from xcit_dense.openmmlab.prediction.categories import Categories
from xcit_dense.openmmlab.prediction.drawing import draw_prediction
from xcit_dense.openmmlab.prediction.masks import encode_masks
from xcit_dense.openmmlab.prediction.masks.box_masks import encode_box_masks, encode_masks_in_boxes
from xcit_dense.openmmlab.prediction.predictor import Predictor
from xcit_dense.openmmlab.prediction.reading.image_files import UnreadableImageError, read_image
from xcit_dense.openmmlab.prediction.results import Detections, Prediction, SegmentationMap

__all__ = [
    "Categories",
    "Detections",
    "Prediction",
    "Predictor",
    "SegmentationMap",
    "UnreadableImageError",
    "draw_prediction",
    "encode_box_masks",
    "encode_masks",
    "encode_masks_in_boxes",
    "read_image",
]
