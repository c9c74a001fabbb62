"""Predictions of trained models on a user's own images: reading, running, drawing, writing."""

from xcit_dense.predict.categories import Categories
from xcit_dense.predict.drawing import draw_prediction
from xcit_dense.predict.masks import encode_masks
from xcit_dense.predict.masks.box_masks import encode_box_masks, encode_masks_in_boxes
from xcit_dense.predict.predictor import Predictor
from xcit_dense.predict.reading.image_files import UnreadableImageError, read_image
from xcit_dense.predict.results import Detections, Prediction, SegmentationMap

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
