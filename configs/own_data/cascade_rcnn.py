# Cascade R-CNN with XCiT for own data: what xcit-dense new-config inherits from.
_base_ = [
    "../_base_/models/cascade_rcnn.py",
    "../_base_/datasets/coco_boxes.py",
    "../_base_/schedules/adamw_3x.py",
    "../_base_/runtime/detection.py",
]
