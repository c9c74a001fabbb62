# Semantic FPN with XCiT-S24/16
_base_ = "./xcit_small_12_p16_semfpn_ade20k.py"
model = dict(
    backbone=dict(arch="small_24", drop_path_rate=0.1),
)
