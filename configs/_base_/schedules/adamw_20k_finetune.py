# 20,000 iterations that go on from a trained model: half the learning rate of the 160,000, and less
# the nearer a layer is to the image. A starting point, not tuned.
_base_ = "./adamw_160k.py"
train_cfg = dict(max_iters=20_000, val_interval=2_000)
optim_wrapper = dict(
    constructor="LayerDecayOptimWrapperConstructor",
    optimizer=dict(lr=3e-5),
    paramwise_cfg=dict(decay_rate=0.85),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=500),
    dict(type="PolyLR", power=1.0, eta_min=0.0, by_epoch=False, begin=500, end=20_000),
]
