# Mask R-CNN with XCiT-L24/16, sharded. The paper's release has ImageNet weights for this size
# (--pretrained), but no recipe and no results for dense tasks: the rest is that of XCiT-M24/16.
_base_ = ["../maskrcnn/xcit_medium_24_p16_maskrcnn_coco.py", "../_base_/runtime/fully_sharded.py"]
model = dict(backbone=dict(arch="large_24", with_cp=True), neck=dict(in_channels=[768] * 4))
