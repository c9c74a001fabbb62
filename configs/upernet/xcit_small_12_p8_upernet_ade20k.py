# UperNet with XCiT-S12/8
_base_ = "../xcit_upernet_ade20k.py"
model = dict(
    backbone=dict(patch_size=8),
)
