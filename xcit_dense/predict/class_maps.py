"""Class maps of large images without the logits of all classes at that size.

mmseg resizes the logits of every class to the original image and then takes the largest: 14 GB for
150 classes on 6000 x 4000 pixels. Here it does so with a few classes at a time.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from xcit_dense.predict.masks import predicts_as_mm

# logits of an image that are resized together
NUMBERS_AT_A_TIME = 2**26


def keep_classes_only(model: nn.Module) -> bool:
    """Let a segmentor predict the class of each pixel and no logits, in place.

    Segmentors that predict in their own way stay.

    Returns:
        Whether the model was changed.
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
        height, width = sample.ori_shape[:2]
        # at least two: of one class mmseg makes a binary map
        at_a_time = max(2, NUMBERS_AT_A_TIME // (height * width))
        first, *others = logits.tensor_split(max(1, len(logits) // at_a_time))
        as_mmseg(first[None], [sample])
        labels = sample.pred_sem_seg.data
        largest = sample.seg_logits.data.amax(0, keepdim=True) if others else None
        count = len(first)
        for part in others:
            as_mmseg(part[None], [sample])
            logit = sample.seg_logits.data.amax(0, keepdim=True)
            labels = torch.where(logit > largest, sample.pred_sem_seg.data + count, labels)
            largest = torch.maximum(largest, logit)
            count += len(part)
        sample.pred_sem_seg.data = labels
        del sample.seg_logits
    return data_samples
