# Mask R-CNN with XCiT-T12/16
_base_ = "../xcit_maskrcnn_coco.py"
model = dict(
    backbone=dict(arch="tiny_12", drop_path_rate=0.0),
    neck=dict(in_channels=[192] * 4),
)
