# UperNet with XCiT-L24/8, sharded. The paper's release has ImageNet weights for this size
# (--pretrained), but no recipe and no results for dense tasks: the rest is that of XCiT-M24/8.
_base_ = ["../upernet/xcit_medium_24_p8_upernet_ade20k.py", "../_base_/runtime/fully_sharded.py"]
model = dict(
    backbone=dict(arch="large_24", with_cp=True),
    decode_head=dict(in_channels=[768] * 4),
    auxiliary_head=dict(in_channels=768),
)
