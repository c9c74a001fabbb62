# Mask R-CNN with XCiT-S12/16 on images of up to 2000x1200, from the published one of 1333x800 (or
# --cfg-options load_from=YOURS). Another backbone: take over the settings of configs/maskrcnn/.
_base_ = [
    "../_base_/models/maskrcnn.py",
    "../_base_/datasets/coco_instance_1200.py",
    "../_base_/schedules/adamw_1x_finetune.py",
    "../_base_/runtime/detection.py",
]
load_from = "https://dl.fbaipublicfiles.com/xcit/coco/maskrcnn_xcit_small_12_p16.pth"
