"""Class maps of large images without the logits of all classes at that size.

mmseg resizes the logits of every class to the original image and then takes the largest: 14 GB for
150 classes on 6000 x 4000 pixels. Here classes that are the largest nowhere are left out before,
and the others are resized one by one.
"""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from torch import Tensor, nn

from xcit_dense.predict.own_methods import predicts_as_mm

# logits of an image that are resized together
NUMBERS_AT_A_TIME = 2**26
# of the largest logit; interpolation in float32 rounds less
_ROUNDING = 1e-5


def keep_classes_only(model: nn.Module) -> bool:
    """Let a segmentor predict the class of each pixel and no logits, in place.

    Of finite logits the classes are those that mmseg finds. Segmentors that predict in their
    own way stay.

    Returns:
        Whether the model was changed.
    """
    from mmseg.models import BaseSegmentor

    if not isinstance(model, BaseSegmentor) or not predicts_as_mm(model):
        return False
    if type(model).postprocess_result is not BaseSegmentor.postprocess_result:
        return False
    model.postprocess_result = partial(_predict_classes, model)
    return True


def winning_classes(logits: Tensor) -> Tensor:
    """The classes that may be the largest somewhere after bilinear interpolation.

    An interpolated logit lies between the smallest and the largest of the four places around it. So
    a class is out if at all fours its largest is below the smallest of some other class.

    Args:
        logits: (C, H, W).

    Returns:
        Their numbers in rising order, (c,).
    """
    reached = logits.new_full(logits.shape[1:], -torch.inf)
    for class_logits in logits:
        torch.maximum(reached, -_largest_of_four(-class_logits), out=reached)
    # what is not a number is below nothing
    reached -= _ROUNDING * torch.maximum(logits.amax(), -logits.amin())
    is_out = [(_largest_of_four(class_logits) < reached).all() for class_logits in logits]
    return (~torch.stack(is_out)).nonzero()[:, 0]


def _largest_of_four(class_logits: Tensor) -> Tensor:
    """The largest of every four neighbours, (H, W); the outermost ones are repeated."""
    rows = torch.cat((class_logits, class_logits[-1:]))
    of_two = torch.maximum(rows[1:], rows[:-1])
    columns = torch.cat((of_two, of_two[:, -1:]), dim=1)
    return torch.maximum(columns[:, 1:], columns[:, :-1])  # max_pool2d is ten times slower


def _predict_classes(
    segmentor: nn.Module, seg_logits: Tensor, data_samples: list[Any] | None = None
) -> list[Any]:
    """What ``BaseSegmentor.postprocess_result`` does, without ``seg_logits`` in the samples."""
    as_mmseg = partial(type(segmentor).postprocess_result, segmentor)
    if data_samples is None:
        return as_mmseg(seg_logits)
    for logits, sample in zip(seg_logits, data_samples, strict=True):
        if _fits(logits, sample):
            as_mmseg(logits[None], [sample])
            del sample.seg_logits
        else:
            upright = _upright(logits, sample)
            labels = _class_map(upright, sample.ori_shape[:2], segmentor.align_corners)
            sample.set_data({"pred_sem_seg": PixelData(data=labels)})
    return data_samples


def _fits(logits: Tensor, sample: Any) -> bool:
    """Whether the logits may be resized together; those of one class always are."""
    height, width = sample.ori_shape[:2]
    return len(logits) == 1 or len(logits) * height * width <= NUMBERS_AT_A_TIME


def _upright(logits: Tensor, sample: Any) -> Tensor:
    """Logits (C, H, W) without padding, and not flipped."""
    described = sample.metainfo
    padding = described.get("img_padding_size", described.get("padding_size", (0, 0, 0, 0)))
    left, right, top, bottom = padding
    _, height, width = logits.shape
    logits = logits[:, top : height - bottom, left : width - right]
    if not described.get("flip"):
        return logits
    return logits.flip(-1 if described["flip_direction"] == "horizontal" else -2)


def _class_map(logits: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    """The class (1, H, W) of each pixel of an image of that size, the first of equal ones."""
    largest = logits.new_full((1, *size), -torch.inf)
    labels = torch.zeros((1, *size), dtype=torch.int16, device=logits.device)
    for label in winning_classes(logits).tolist():
        resized = F.interpolate(
            logits[None, label : label + 1], size, mode="bilinear", align_corners=align_corners
        )[0]
        labels.masked_fill_(resized > largest, label)
        torch.maximum(largest, resized, out=largest)
    del largest, resized
    return labels.long()
