"""Run lengths from all heads of a model that predict masks."""

from torch import nn

from xcit_dense.predict.masks.box_masks import encode_masks_in_boxes
from xcit_dense.predict.masks.query_masks import encode_query_masks
from xcit_dense.predict.masks.upsampled_masks import encode_upsampled_masks
from xcit_dense.predict.own_methods import predicts_as_mm


def encode_masks(model: nn.Module) -> int:
    """Let a detector predict masks one by one, as run lengths instead of arrays, in place.

    Heads are changed that are mmdet's own: those that paste masks in boxes (Mask R-CNN), that
    upsample them to the image (SOLOv2, RTMDet-Ins, CondInst), and that fuse queries (Mask2Former).

    Returns:
        How many heads were changed.
    """
    if not predicts_as_mm(model):
        return 0
    return encode_masks_in_boxes(model) + encode_upsampled_masks(model) + encode_query_masks(model)
