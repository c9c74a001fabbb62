# 12 epochs that go on from a trained model: half the learning rate of the 36, and less the nearer
# a layer is to the image. A starting point, not tuned.
_base_ = "./adamw_3x.py"
train_cfg = dict(max_epochs=12)
optim_wrapper = dict(
    constructor="LayerDecayOptimWrapperConstructor",
    optimizer=dict(lr=5e-5),
    paramwise_cfg=dict(decay_rate=0.85),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type="MultiStepLR", begin=0, end=12, by_epoch=True, milestones=[8, 11], gamma=0.1),
]
