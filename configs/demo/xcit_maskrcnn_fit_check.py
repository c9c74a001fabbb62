# Does it learn real images by heart? XCiT-N12/16 on a few COCO images, evaluated on the same ones:
# wrong boxes, labels or masks anywhere in the pipeline would keep it from that.
_base_ = ["../xcit_maskrcnn_coco.py"]

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="Resize", scale=(320, 320), keep_ratio=True),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(320, 320), keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(
        type="PackDetInputs",
        meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
    ),
]
training_images = dict(
    ann_file="annotations/instances_train2017.json", data_prefix=dict(img="train2017/")
)
train_dataloader = dict(
    batch_size=4, num_workers=1, dataset=dict(pipeline=train_pipeline, **training_images)
)
val_dataloader = dict(num_workers=1, dataset=dict(pipeline=test_pipeline, **training_images))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file="data/coco/annotations/instances_train2017.json")
test_evaluator = val_evaluator
evaluates_training_images = True

# from random weights, norms in neck and heads save most of the training
norm_cfg = dict(type="BN")
model = dict(
    backbone=dict(arch="nano_12", patch_size=16, drop_path_rate=0.0),
    neck=dict(in_channels=[128] * 4, out_channels=64, norm_cfg=norm_cfg),
    rpn_head=dict(in_channels=64, feat_channels=64, anchor_generator=dict(scales=[4])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64, roi_layer=dict(sampling_ratio=2)),
        bbox_head=dict(
            type="ConvFCBBoxHead",
            num_shared_convs=2,
            num_shared_fcs=1,
            in_channels=64,
            conv_out_channels=64,
            fc_out_channels=512,
            norm_cfg=norm_cfg,
        ),
        mask_roi_extractor=dict(out_channels=64, roi_layer=dict(sampling_ratio=1)),
        mask_head=dict(num_convs=2, in_channels=64, conv_out_channels=64, norm_cfg=norm_cfg),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=300, max_per_img=200), rcnn=dict(sampler=dict(num=128))
    ),
)

train_cfg = dict(max_epochs=80, val_interval=40)
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=1e-4), clip_grad=dict(max_norm=5.0))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(
        type="CosineAnnealingLR", by_epoch=True, T_max=80, eta_min=1e-5, convert_to_iter_based=True
    ),
]
auto_scale_lr = dict(base_batch_size=4)
default_hooks = dict(logger=dict(interval=13), checkpoint=dict(interval=40))
