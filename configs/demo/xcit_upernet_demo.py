# A small UperNet that learns the generated shapes in minutes on a CPU.
_base_ = ["../xcit_upernet_ade20k.py"]

data_root = "data/demo/ade20k"
metainfo = dict(
    classes=("background", "circle", "square", "triangle", "star", "cross"),
    palette=[
        (90, 90, 90),
        (230, 70, 60),
        (60, 140, 230),
        (70, 190, 90),
        (240, 180, 40),
        (160, 80, 210),
    ],
)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", reduce_zero_label=True),
    dict(type="RandomCrop", crop_size=(144, 144), cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.75, direction=["horizontal", "vertical", "diagonal"]),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", reduce_zero_label=True),
    dict(type="PackSegInputs"),
]
dataset = dict(
    type="BaseSegDataset", data_root=data_root, metainfo=metainfo, reduce_zero_label=True
)
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(pipeline=train_pipeline, **dataset),
)
val_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(pipeline=test_pipeline, **dataset)
)
test_dataloader = val_dataloader

model = dict(
    data_preprocessor=dict(size=(144, 144)),
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=96, depth=6, num_heads=4, eta=0.1),
        patch_size=8,
        drop_path_rate=0.0,
    ),
    decode_head=dict(
        in_channels=[96] * 4,
        channels=64,
        num_classes=6,
        # most pixels are background; Lovasz weighs the classes alike
        loss_decode=[
            dict(type="CrossEntropyLoss", loss_weight=1.0),
            dict(type="LovaszLoss", reduction="none", loss_weight=1.0),
        ],
    ),
    auxiliary_head=dict(in_channels=96, channels=64, num_classes=6),
)

train_cfg = dict(max_iters=1000, val_interval=250)
optim_wrapper = dict(optimizer=dict(lr=2.5e-3), clip_grad=dict(max_norm=5.0))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=50, end=1000, T_max=950, eta_min=1e-5),
]
auto_scale_lr = dict(base_batch_size=4)
default_hooks = dict(logger=dict(interval=25), checkpoint=dict(interval=500))
