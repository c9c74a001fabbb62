# RetinaNet with XCiT-S12/16 and FPN on strides 8 to 128; the head is mmdet's.
_base_ = __import__("mmdet").__path__[0] + "/.mim/configs/_base_/models/retinanet_r50_fpn.py"
model = dict(
    backbone=dict(
        _delete_=True,
        type="XCiT",
        arch="small_12",
        patch_size=16,
        drop_path_rate=0.05,
        norm_cfg=dict(type="SyncBN"),
        out_strides=(8, 16, 32),
    ),
    neck=dict(in_channels=[384] * 3, start_level=0),
)
