# Mask2Former with XCiT for own data: what xcit-dense new-config inherits from.
_base_ = [
    "../_base_/models/mask2former.py",
    "../_base_/datasets/coco_instance.py",
    "../_base_/schedules/adamw_3x.py",
    "../_base_/runtime/detection.py",
]
# as in mmdet's own config, but for the backbone, which has the full rate as in the other heads here
embedding = dict(lr_mult=1.0, decay_mult=0.0)
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys=dict(query_embed=embedding, query_feat=embedding, level_embed=embedding)
    ),
    clip_grad=dict(max_norm=0.01, norm_type=2),
)
