# Cascade R-CNN with XCiT-S12/16 and FPN; the heads are mmdet's.
_base_ = __import__("mmdet").__path__[0] + "/.mim/configs/_base_/models/cascade-rcnn_r50_fpn.py"
model = dict(
    backbone=dict(
        _delete_=True,
        type="XCiT",
        arch="small_12",
        patch_size=16,
        drop_path_rate=0.05,
        norm_cfg=dict(type="SyncBN"),
    ),
    neck=dict(in_channels=[384] * 4),
)
