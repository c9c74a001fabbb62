# Mask R-CNN with XCiT-M24/8
_base_ = "../xcit_maskrcnn_coco.py"
model = dict(
    backbone=dict(arch="medium_24", patch_size=8, drop_path_rate=0.15),
    neck=dict(in_channels=[512] * 4),
)
