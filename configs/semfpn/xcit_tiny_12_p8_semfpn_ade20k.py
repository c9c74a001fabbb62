# Semantic FPN with XCiT-T12/8
_base_ = "./xcit_small_12_p16_semfpn_ade20k.py"
model = dict(
    backbone=dict(arch="tiny_12", patch_size=8, drop_path_rate=0.0),
    neck=dict(in_channels=[192] * 4, out_channels=192),
    decode_head=dict(in_channels=[192] * 4),
)
