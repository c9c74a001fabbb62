# XCiT in mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco.py, by tools/swap_backbone.py --arch
# small_12 --patch-size 16
# - The backbone starts from random weights; give weights to start from others.
_base_ = (
    __import__("mmdet").__path__[0]
    + "/.mim/configs/mask2former/mask2former_r50_8xb2-lsj-50e_coco.py"
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
    ),
    panoptic_head=dict(in_channels=[384] * 4),
)
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={
            "backbone.pyramid": dict(lr_mult=1.0),
            "temperature": dict(decay_mult=0.0, lr_mult=0.1),
            "layer_scale": dict(decay_mult=0.0, lr_mult=0.1),
            "patch_embedding.0.1": dict(decay_mult=0.0, lr_mult=0.1),
            "patch_embedding.2.1": dict(decay_mult=0.0, lr_mult=0.1),
            "patch_embedding.4.1": dict(decay_mult=0.0, lr_mult=0.1),
            "patch_embedding.6.1": dict(decay_mult=0.0, lr_mult=0.1),
            "attention_norm": dict(decay_mult=0.0, lr_mult=0.1),
            "interaction_norm": dict(decay_mult=0.0, lr_mult=0.1),
            "interaction.norm": dict(decay_mult=0.0, lr_mult=0.1),
            ".ffn_norm": dict(decay_mult=0.0, lr_mult=0.1),
            "pyramid.levels.0.1": dict(decay_mult=0.0),
        },
    ),
)
