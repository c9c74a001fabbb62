# Mask R-CNN with XCiT-S12/16
_base_ = "../xcit_maskrcnn_coco.py"
