"""The table of mmcv ops that this package serves: file name to op names."""

from collections.abc import Callable
from importlib import import_module

_OPS_BY_FILE = {
    "boxes": ("nms", "nms_match", "softnms", "bbox_overlaps"),
    "roi_align": ("roi_align_forward", "roi_align_backward"),
    "roi_pool": ("roi_pool_forward", "roi_pool_backward"),
    "deform_roi_pool": ("deform_roi_pool_forward", "deform_roi_pool_backward"),
    "border_align": ("border_align_forward", "border_align_backward"),
    "deformable": (
        "deform_conv_forward",
        "deform_conv_backward_input",
        "deform_conv_backward_parameters",
        "modulated_deform_conv_forward",
        "modulated_deform_conv_backward",
    ),
    "focal": (
        "sigmoid_focal_loss_forward",
        "sigmoid_focal_loss_backward",
        "softmax_focal_loss_forward",
        "softmax_focal_loss_backward",
    ),
    "ms_deform_attn": ("ms_deform_attn_forward", "ms_deform_attn_backward"),
    "carafe": (
        "carafe_forward",
        "carafe_backward",
        "carafe_naive_forward",
        "carafe_naive_backward",
    ),
    "masked_conv": ("masked_im2col_forward", "masked_col2im_forward"),
    "psa_mask": ("psamask_forward", "psamask_backward"),
    "build_info": ("get_compiler_version", "get_compiling_cuda_version"),
}

SERVED_OPS: tuple[str, ...] = tuple(name for names in _OPS_BY_FILE.values() for name in names)
"""Names of the functions of `mmcv._ext` that work without mmcv's compiled module."""


def load_served_ops() -> dict[str, Callable]:
    """Imports the served ops (and with them torchvision), by name."""
    return {
        name: getattr(import_module(f"{__package__}.{file}"), name)
        for file, names in _OPS_BY_FILE.items()
        for name in names
    }
