"""A generated data set of coloured shapes, in COCO's format and in ADE20K's.

Both are made from the very same scenes, so that detection and segmentation can be tried in
minutes, without a download.
"""

from dev.demo_data.data_set import Plan, write_ade20k, write_coco

__all__ = ["Plan", "write_ade20k", "write_coco"]
