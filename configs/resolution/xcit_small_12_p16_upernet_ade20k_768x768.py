# UperNet with XCiT-S12/16 at 768x768, from the published one of 512x512 (or --cfg-options
# load_from=YOURS). Another backbone: take over the model settings of configs/upernet/.
_base_ = [
    "../_base_/models/upernet.py",
    "../_base_/datasets/ade20k_768x768.py",
    "../_base_/schedules/adamw_20k_finetune.py",
    "../_base_/runtime/segmentation.py",
]
model = dict(data_preprocessor=dict(size=(768, 768)))
default_hooks = dict(checkpoint=dict(interval=2_000))
load_from = "https://dl.fbaipublicfiles.com/xcit/ade/upernet_xcit_small_12_p16.pth"
