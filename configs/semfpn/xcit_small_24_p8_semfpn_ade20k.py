# Semantic FPN with XCiT-S24/8
_base_ = "./xcit_small_12_p16_semfpn_ade20k.py"
model = dict(
    backbone=dict(arch="small_24", patch_size=8, drop_path_rate=0.1),
)
