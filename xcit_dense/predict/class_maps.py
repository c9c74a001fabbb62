"""Class maps of large images without the logits of all classes at that size.

mmseg resizes the logits of every class to the original image and then takes the largest: 14 GB for
150 classes on 6000 x 4000 pixels. Here the classes of a large image are resized one by one.
"""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from torch import Tensor, nn

from xcit_dense.predict.masks import predicts_as_mm

NUMBERS_AT_A_TIME = 2**26  # logits of an image that are resized together


def keep_classes_only(model: nn.Module) -> bool:
    """Let a segmentor predict the class of each pixel and no logits, in place.

    Returns:
        Whether it was changed: segmentors that predict in their own way stay.
    """
    from mmseg.models import BaseSegmentor

    if not isinstance(model, BaseSegmentor) or not predicts_as_mm(model):
        return False
    model.postprocess_result = partial(_predict_classes, model)
    return True


def _predict_classes(
    segmentor: nn.Module, seg_logits: Tensor, data_samples: list[Any] | None = None
) -> list[Any]:
    """What ``BaseSegmentor.postprocess_result`` does, without ``seg_logits`` in the samples."""
    as_mmseg = partial(type(segmentor).postprocess_result, segmentor)
    if data_samples is None:
        return as_mmseg(seg_logits)
    for logits, sample in zip(seg_logits, data_samples, strict=True):
        size = sample.ori_shape[:2]
        is_small = len(logits) == 1 or len(logits) * size[0] * size[1] <= NUMBERS_AT_A_TIME
        if is_small or sample.get("flip"):
            as_mmseg(logits[None], [sample])
            del sample.seg_logits
        else:
            padding = sample.get("img_padding_size", sample.get("padding_size", (0, 0, 0, 0)))
            left, right, top, bottom = padding
            inner = logits[:, top : logits.shape[1] - bottom, left : logits.shape[2] - right]
            labels = _class_map(inner, size, segmentor.align_corners)
            sample.set_data({"pred_sem_seg": PixelData(data=labels)})
    return data_samples


def _class_map(logits: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    """The class (1, H, W) of each pixel of an image of that size, the first of equal ones."""
    largest = logits.new_full((1, *size), -torch.inf)
    labels = torch.zeros((1, *size), dtype=torch.int16, device=logits.device)
    for label in range(len(logits)):
        resized = F.interpolate(
            logits[None, label : label + 1], size, mode="bilinear", align_corners=align_corners
        )[0]
        labels.masked_fill_(resized > largest, label)
        torch.maximum(largest, resized, out=largest)
    return labels.long()
