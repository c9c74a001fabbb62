# Semantic FPN with XCiT-S12/8
_base_ = "./xcit_small_12_p16_semfpn_ade20k.py"
model = dict(
    backbone=dict(patch_size=8),
)
