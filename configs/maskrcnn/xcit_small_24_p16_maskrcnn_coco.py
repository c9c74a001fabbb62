# Mask R-CNN with XCiT-S24/16
_base_ = "../xcit_maskrcnn_coco.py"
model = dict(
    backbone=dict(arch="small_24", drop_path_rate=0.1),
)
