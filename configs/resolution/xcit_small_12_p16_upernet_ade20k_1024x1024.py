# UperNet with XCiT-S12/16 at 1024x1024, from the one of 768x768.
_base_ = [
    "../_base_/models/upernet.py",
    "../_base_/datasets/ade20k_1024x1024.py",
    "../_base_/schedules/adamw_20k_finetune.py",
    "../_base_/runtime/segmentation.py",
]
model = dict(data_preprocessor=dict(size=(1024, 1024)))
default_hooks = dict(checkpoint=dict(interval=2_000))
load_from = "work_dirs/xcit_small_12_p16_upernet_ade20k_768x768/iter_20000.pth"
