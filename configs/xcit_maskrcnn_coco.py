# Mask R-CNN with XCiT-S12/16 on COCO, 36 epochs: the recipe of the XCiT paper, section 4.4.
_base_ = [
    "./_base_/models/maskrcnn.py",
    "./_base_/datasets/coco_instance.py",
    "./_base_/schedules/adamw_3x.py",
    "./_base_/runtime/detection.py",
]
