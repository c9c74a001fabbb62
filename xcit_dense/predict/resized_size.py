"""The size that a test pipeline resized an image to, before it padded it."""

from typing import Any


def size_before_padding(sample: Any, padded: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the resized image in what a test pipeline has made, without padding.

    Where a pipeline pads, at the right and below, what it calls the size of the image is the padded
    one; the factor of the resizing tells.

    Args:
        sample: a data sample of mmdet or mmseg.
        padded: height and width of the sample's pixels.
    """
    described = sample.metainfo
    factor = described.get("scale_factor")
    if factor is None or "ori_shape" not in described:
        height, width = described.get("img_shape", padded)[:2]
    else:
        height, width = described["ori_shape"][:2]
        height, width = round(height * factor[1]), round(width * factor[0])
    return min(padded[0], max(1, height)), min(padded[1], max(1, width))
