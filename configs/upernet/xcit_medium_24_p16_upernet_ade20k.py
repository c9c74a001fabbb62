# UperNet with XCiT-M24/16
_base_ = "../xcit_upernet_ade20k.py"
model = dict(
    backbone=dict(arch="medium_24", drop_path_rate=0.15),
    decode_head=dict(in_channels=[512] * 4),
    auxiliary_head=dict(in_channels=512),
)
