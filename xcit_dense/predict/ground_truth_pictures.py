"""Pictures of ground truth over the images that it belongs to."""

from typing import Any

import numpy as np

from xcit_dense.predict.categories import Categories
from xcit_dense.predict.drawing import draw_prediction
from xcit_dense.predict.resized_size import size_before_padding
from xcit_dense.predict.results import SegmentationMap, from_instances


def draw_ground_truth(
    pixels: np.ndarray, sample: Any, categories: Categories, annotated_as_read: bool = False
) -> np.ndarray:
    """Draw the boxes, masks and labels of a data sample into a copy of its image.

    Args:
        pixels: uint8 (H, W, 3) in blue, green, red, with padding at the right and below.
        sample: of mmdet or mmseg.
        categories: names and colours of the labels.
        annotated_as_read: the ground truth is that of the image in its file, which was resized
            since; else of the pixels.

    Returns:
        uint8 (H, W, 3) in blue, green, red.
    """
    picture = pixels.copy()
    height, width = picture.shape[:2]
    annotated_size = None
    if annotated_as_read:
        height, width = size_before_padding(sample, (height, width))
        annotated_size = sample.metainfo.get("ori_shape", (height, width))[:2]
    image = picture[:height, :width]
    labels = _label_map(sample)
    if labels is not None:
        rows, columns = (height, width) if annotated_as_read else _covered(labels, sample)
        part = image[:rows, :columns]
        part[:] = draw_prediction(part, SegmentationMap(labels), categories)
    if "gt_instances" in sample and "bboxes" in sample.gt_instances:
        objects = from_instances(sample.gt_instances)
        image[:] = draw_prediction(image, objects, categories, image_size=annotated_size)
    return picture


def _label_map(sample: Any) -> np.ndarray | None:
    """The label of every pixel, (H, W), where a data sample has it: mmseg's or mmdet's."""
    if "gt_sem_seg" not in sample:
        return None
    found = sample.gt_sem_seg
    return (found.data if "data" in found else found.sem_seg)[0].numpy()


def _covered(labels: np.ndarray, sample: Any) -> tuple[int, int]:
    """Height and width of the pixels that a label map covers: its own, or, if it is coarser than
    the image, those of the image."""
    size = sample.metainfo.get("img_shape", labels.shape)[:2]
    return max(labels.shape[0], size[0]), max(labels.shape[1], size[1])
