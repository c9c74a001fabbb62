# UperNet with XCiT-S12/16 on ADE20K, 160,000 iterations: the recipe of the XCiT paper, section 4.5.
_base_ = [
    "./_base_/models/upernet.py",
    "./_base_/datasets/ade20k_512x512.py",
    "./_base_/schedules/adamw_160k.py",
    "./_base_/runtime/segmentation.py",
]
