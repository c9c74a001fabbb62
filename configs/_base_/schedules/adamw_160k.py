# 160,000 iterations, 8 GPUs x 2 images; learning rate and warm-up of the XCiT paper's release.
train_cfg = dict(type="IterBasedTrainLoop", max_iters=160_000, val_interval=16_000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

# gradient clipping: --cfg-options optim_wrapper.clip_grad.max_norm=1.0
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01),
    # no decay for norms (weight and bias), temperatures and layer scales
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        custom_keys={"temperature": dict(decay_mult=0.0), "layer_scale": dict(decay_mult=0.0)},
    ),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type="PolyLR", power=1.0, eta_min=0.0, by_epoch=False, begin=1500, end=160_000),
]
auto_scale_lr = dict(enable=False, base_batch_size=16)
