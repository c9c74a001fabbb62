# Mask R-CNN with XCiT-S12/8
_base_ = "../xcit_maskrcnn_coco.py"
model = dict(
    backbone=dict(patch_size=8),
)
