# 36 epochs, 8 GPUs x 2 images; learning rate and steps of the XCiT paper's release.
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=36, val_interval=1)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

# gradient clipping: --cfg-options optim_wrapper.clip_grad.max_norm=1.0
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    # no decay for norms (weight and bias), temperatures and layer scales
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        custom_keys={"temperature": dict(decay_mult=0.0), "layer_scale": dict(decay_mult=0.0)},
    ),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type="MultiStepLR", begin=0, end=36, by_epoch=True, milestones=[27, 33], gamma=0.1),
]
auto_scale_lr = dict(enable=False, base_batch_size=16)
