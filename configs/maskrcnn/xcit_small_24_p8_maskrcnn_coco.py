# Mask R-CNN with XCiT-S24/8
_base_ = "../xcit_maskrcnn_coco.py"
model = dict(
    backbone=dict(arch="small_24", patch_size=8, drop_path_rate=0.1),
)
