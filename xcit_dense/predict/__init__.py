"""Predictions of trained models on a user's own images: reading, running, drawing, writing."""

from xcit_dense.predict.drawing import draw_ground_truth, draw_prediction
from xcit_dense.predict.inputs import read_image
from xcit_dense.predict.postprocessing import encode_masks, keep_classes_only
from xcit_dense.predict.predictor import Predictor
from xcit_dense.predict.results import Categories, Detections, Prediction, SegmentationMap

__all__ = [
    "Categories",
    "Detections",
    "Prediction",
    "Predictor",
    "SegmentationMap",
    "draw_ground_truth",
    "draw_prediction",
    "encode_masks",
    "keep_classes_only",
    "read_image",
]
