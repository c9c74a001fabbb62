# Mask2Former with XCiT-S12/16; the heads are mmdet's. Its config is taken apart here, since it comes
# with data sets and schedules of its own; images are padded as a batch needs it, not to 1024x1024.
model = (
    __import__("mmengine")
    .Config.fromfile(
        __import__("mmdet").__path__[0]
        + "/.mim/configs/mask2former/mask2former_r50_8xb2-lsj-50e_coco.py"
    )
    .model.to_dict()
)
model["data_preprocessor"]["batch_augments"] = None
model["backbone"] = dict(
    type="XCiT",
    arch="small_12",
    patch_size=16,
    drop_path_rate=0.05,
    norm_cfg=dict(type="SyncBN"),
)
model["panoptic_head"]["in_channels"] = [384] * 4
