# COCO 2017 without its masks: boxes only, otherwise the same.
_base_ = "./coco_instance.py"

boxes = dict(type="LoadAnnotations", with_bbox=True)
train_pipeline = [_base_.train_pipeline[0], boxes, *_base_.train_pipeline[2:]]
test_pipeline = [*_base_.test_pipeline[:2], boxes, _base_.test_pipeline[3]]
tta_transforms = _base_.tta_pipeline[1].transforms
tta_pipeline = [
    _base_.tta_pipeline[0],
    dict(type="TestTimeAug", transforms=[*tta_transforms[:2], [boxes], tta_transforms[3]]),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(metric="bbox")
test_evaluator = val_evaluator
