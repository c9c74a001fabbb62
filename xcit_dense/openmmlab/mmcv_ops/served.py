"""The table of mmcv ops that this package serves: file name to op names."""

from collections.abc import Callable
from importlib import import_module

_OPS_BY_FILE = {
    "boxes": ("nms", "softnms", "bbox_overlaps"),
    "roi": (
        "roi_align_forward",
        "roi_align_backward",
        "roi_pool_forward",
        "roi_pool_backward",
    ),
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
