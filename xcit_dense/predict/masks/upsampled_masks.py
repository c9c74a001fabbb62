"""Masks of heads that predict them for the whole image, upsampled and encoded one by one.

SOLO, SOLOv2, RTMDet-Ins, CondInst, BoxInst and YOLACT predict masks at low resolution and upsample
all of them to the size of the image, as floats: 10 GB for 100 instances on 6000 x 4000 pixels.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from xcit_dense.predict.masks.deferred_masks import DeferInterpolation
from xcit_dense.predict.own_methods import predicts_as_mm


def encode_upsampled_masks(model: nn.Module) -> int:
    """Let heads that upsample masks to the image predict run lengths instead, in place.

    The masks of a prediction are then a list of :class:`RunLengths`; an image of a few pixels or
    without instances keeps its tensor. Heads that predict in a way of their own stay.

    Returns:
        How many heads were changed.
    """
    upsampling = _methods_that_upsample()
    changed = 0
    for module in model.modules():
        for name in {method.__name__ for method in upsampling}:
            method = getattr(type(module), name, None)
            if method in upsampling and predicts_as_mm(module):
                setattr(module, name, partial(_run_deferred, method, module))
                changed += 1
    return changed


def _methods_that_upsample() -> set[Callable]:
    """mmdet's methods in which nothing but the predicted masks is interpolated."""
    from mmdet.models.dense_heads import (
        CondInstMaskHead,
        DecoupledSOLOHead,
        RTMDetInsHead,
        SOLOHead,
        SOLOV2Head,
        YOLACTProtonet,
    )

    heads = (CondInstMaskHead, DecoupledSOLOHead, SOLOHead, SOLOV2Head, YOLACTProtonet)
    return {
        *(head._predict_by_feat_single for head in heads),
        RTMDetInsHead._bbox_mask_post_process,
    }


def _run_deferred(method: Callable, head: nn.Module, *args: Any, **kwargs: Any) -> Any:
    with DeferInterpolation():
        return method(head, *args, **kwargs)
