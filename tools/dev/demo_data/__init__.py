"""A generated data set of coloured shapes, in COCO's format and in ADE20K's.

Both are made from the very same scenes, so that detection and segmentation can be tried in
minutes, without a download:

>>> from dev.demo_data import Plan, write_ade20k, write_coco
>>> plan = Plan(train=200, val=40, size=192, seed=0)
>>> write_coco("data/demo/coco", plan)  # doctest: +SKIP
>>> write_ade20k("data/demo/ade20k", plan)  # doctest: +SKIP
"""

from dev.demo_data.ade20k_format import (
    SEGMENTATION_CLASSES,
    SEGMENTATION_PALETTE,
    label_map,
    write_ade20k,
)
from dev.demo_data.coco_format import (
    CATEGORY_IDS,
    INSTANCE_CLASSES,
    INSTANCE_PALETTE,
    write_coco,
)
from dev.demo_data.plan import Plan
from dev.demo_data.scenes import Instance, Scene, draw_scene
from dev.demo_data.shapes import CATEGORIES

__all__ = [
    "CATEGORIES",
    "CATEGORY_IDS",
    "INSTANCE_CLASSES",
    "INSTANCE_PALETTE",
    "SEGMENTATION_CLASSES",
    "SEGMENTATION_PALETTE",
    "Instance",
    "Plan",
    "Scene",
    "draw_scene",
    "label_map",
    "write_ade20k",
    "write_coco",
]
