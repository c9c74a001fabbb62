# Semantic FPN with XCiT-S12/16 on ADE20K, 80,000 iterations: the recipe of the XCiT paper.
_base_ = [
    "../_base_/models/semfpn.py",
    "../_base_/datasets/ade20k_512x512.py",
    "../_base_/schedules/adamw_80k.py",
    "../_base_/runtime/segmentation.py",
]
default_hooks = dict(checkpoint=dict(interval=8_000))
