# XCiT in mmdet::retinanet/retinanet_r50_fpn_ms-640-800-3x_coco.py, by tools/swap_backbone.py --arch
# small_12 --patch-size 16
# - optim_wrapper: AdamW with lr 0.0001 in the place of SGD.
# - The backbone starts from random weights; give weights to start from others.
_base_ = (
    __import__("mmdet").__path__[0]
    + "/.mim/configs/retinanet/retinanet_r50_fpn_ms-640-800-3x_coco.py"
)
custom_imports = dict(imports=["xcit_dense"], allow_failed_imports=False)
model = dict(
    backbone=dict(
        _delete_=True,
        type="XCiT",
        arch="small_12",
        patch_size=16,
        norm_cfg=dict(type="SyncBN"),
        drop_path_rate=0.05,
        out_strides=(8, 16, 32),
    ),
    neck=dict(in_channels=[384] * 3, start_level=0),
)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type="AdamW", lr=0.0001, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        custom_keys=dict(temperature=dict(decay_mult=0.0), layer_scale=dict(decay_mult=0.0)),
    ),
)
