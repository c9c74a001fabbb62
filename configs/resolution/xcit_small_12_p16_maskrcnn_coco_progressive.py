# Mask R-CNN with XCiT-S12/16, two thirds of the training on small images, the last third on the
# images of the recipe. PipelineSwitchHook switches between epochs, workers included.
_base_ = "../xcit_maskrcnn_coco.py"

small_images = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="RandomFlip", prob=0.5),
    dict(
        type="RandomChoiceResize",
        scales=[(side, 896) for side in range(320, 545, 32)],
        keep_ratio=True,
    ),
    dict(type="PackDetInputs"),
]
train_dataloader = dict(dataset=dict(pipeline=small_images))
custom_hooks = [
    *_base_.custom_hooks,
    dict(type="PipelineSwitchHook", switch_epoch=24, switch_pipeline=_base_.train_pipeline),
]
