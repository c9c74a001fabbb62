# UperNet with XCiT-T12/8
_base_ = "../xcit_upernet_ade20k.py"
model = dict(
    backbone=dict(arch="tiny_12", patch_size=8, drop_path_rate=0.0),
    decode_head=dict(in_channels=[192] * 4),
    auxiliary_head=dict(in_channels=192),
)
