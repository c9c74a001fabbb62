# Half as long as the schedule of 160,000 iterations, otherwise the same.
_base_ = "./adamw_160k.py"
train_cfg = dict(max_iters=80_000, val_interval=8_000)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type="PolyLR", power=1.0, eta_min=0.0, by_epoch=False, begin=1500, end=80_000),
]
