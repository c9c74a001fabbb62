"""The config of a detector for a data set in COCO's format, and the files that it needs."""

import json
from collections.abc import Sequence

from xcit_dense.data.annotation_checks import boxes_are_of_coco
from xcit_dense.data.checking import show
from xcit_dense.data.coco_export import CocoExport
from xcit_dense.data.data_sets import DataSet
from xcit_dense.data.learned_objects import classes_of, objects_of, part_of
from xcit_dense.data.new_config import NewConfig, Request, divide, filled, relative, writer
from xcit_dense.data.proposals import (
    Anchors,
    notes_of_scale,
    propose_anchors,
    propose_scale,
    scaled,
)
from xcit_dense.data.schedule import DETECTION, propose_schedule
from xcit_dense.errors import UserError, counted
from xcit_dense.network.architectures import ARCHS

HEADS_OF_MASKS = ("maskrcnn", "cascade", "mask2former")
HEADS_OF_BOXES = ("fasterrcnn", "cascade", "retinanet")

_TEMPLATE = """\
# {title}
_base_ = "xcit_dense::own_data/{base}.py"
data_root = {data_root}
{metainfo}
weights = {weights}
{stages}
model = dict(
    backbone=dict({backbone}),
{heads}
)
scales = {scales}
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True, with_mask={learns_masks}),
    dict(type="RandomChoiceResize", scales=scales, keep_ratio=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackDetInputs"),
]
resize = dict(type="Resize", scale={scale}, keep_ratio=True)
test_pipeline = [_base_.test_pipeline[0], resize, *_base_.test_pipeline[2:]]
tta = [[resize], *_base_.tta_pipeline[1].transforms[1:]]
tta_pipeline = [_base_.tta_pipeline[0], dict(type="TestTimeAug", transforms=tta)]
own_data = dict(data_root=data_root, metainfo=metainfo)
train_data = dict(ann_file={places[0]}, data_prefix=dict(img={places[1]}), pipeline=train_pipeline)
val_data = dict(ann_file={places[2]}, data_prefix=dict(img={places[3]}), pipeline=test_pipeline)
train_dataloader = dict(batch_size={request.batch_size}, dataset=dict(train_data, **own_data))
val_dataloader = test_dataloader = dict(dataset=dict(val_data, **own_data))
val_evaluator = test_evaluator = dict(ann_file=data_root + {places[2]})
train_cfg = dict(max_epochs={epochs}, val_interval={interval})
optim_wrapper = dict(optimizer=dict(lr={rate!r}))
auto_scale_lr = dict(base_batch_size={batch_size})
warm_up = dict(type="LinearLR", start_factor=0.001, by_epoch=False, end={warm_up})
param_scheduler = [warm_up, dict(type="MultiStepLR", milestones={steps}, gamma=0.1, end={epochs})]
saving = dict(interval={interval}, save_best="coco/{metric}_mAP")
default_hooks = dict(logger=dict(interval={log_interval}), checkpoint=saving)
"""


def detection_config(
    request: Request, exports: Sequence[CocoExport], drop_empty: bool = False
) -> NewConfig:
    """The config of a detector for one annotation file, or for two, to train and to validate.

    Beside it go mended files, in ``NAME_annotations``. The head, of ``HEADS_OF_MASKS`` or
    ``HEADS_OF_BOXES``, is Mask R-CNN where every object has a mask, else Faster R-CNN, if none is
    asked for. ``drop_empty`` is as for ``classes_of``.

    Raises:
        UserError: nothing can be learned from the files, or not what the head learns, or boxes are
            not those of COCO.
    """
    notes: list[str] = []
    for export in exports:
        notes.append(f"{export.path}: {export.numbers()}; images in {export.images}")
        notes += [f"  mended: {line}" for line in export.mended]
        data_set = DataSet("train", "", {"ann_file": str(export.path)}, export.content)
        show([*boxes_are_of_coco(data_set)])
    base = _base_of(request.head, exports)
    if request.head is None and base not in HEADS_OF_MASKS:
        notes.append("mind: not every object has a mask: only boxes are learned")
    read = [export.path.resolve() for export in exports]
    if len(exports) == 1:
        names = [record["file_name"] for record in exports[0].content["images"]]
        exports = [part_of(exports[0], part) for part in divide(names, request, notes)]
    train, val = exports
    classes = classes_of(train, val, drop_empty, notes)

    sizes, boxes, num_images = objects_of(train, classes)
    if unused := len(train.content["images"]) - num_images:
        notes.append(
            f"not trained on: {counted(unused, 'image')} without an object that can be learned"
        )
    long, short = request.scale or propose_scale(sizes, boxes)
    boxes = scaled(sizes, boxes, (long, short))
    notes += notes_of_scale(boxes, (long, short))
    part = {"retinanet": "bbox_head", "mask2former": None}.get(base, "rpn_head")
    anchors = propose_anchors(boxes, part, notes) if part else None
    schedule = propose_schedule(DETECTION, num_images, request, notes)
    sides = sorted({max(32 * round(short * share / 320), 32) for share in range(6, 10)} | {short})

    files = {}
    for split, export in (("train", train), ("val", val)):
        if export.mended:
            export.path = request.beside("annotations") / f"{split}.json"
            text = json.dumps(export.content, ensure_ascii=False, allow_nan=False)
            files[export.path] = writer(text)
            notes.append(f"written besides: {export.path} ({export.numbers()})")
    if taken := [path for path in read if path in files]:
        raise UserError(f"{taken[0]} is to be read, not replaced: name another by -o")
    paths = [train.path.resolve(), train.images, val.path.resolve(), val.images]
    root, places = relative(paths, paths)
    stages = "stages = [dict(head, num_classes={}) for head in _base_.model.roi_head.bbox_head]"
    text = filled(
        _TEMPLATE,
        base,
        request,
        classes,
        notes,
        data_root=root,
        places=places,
        stages=stages.format(len(classes)) if base.startswith("cascade") else "",
        heads=_head_lines(base, request.arch, len(classes), anchors),
        scale=(long, short),
        scales=[(long, side) for side in sides],
        learns_masks="mask" in base,
        metric="segm" if "mask" in base else "bbox",
        **schedule,
    )
    return NewConfig(text, files, notes)


def _base_of(head: str | None, exports: Sequence[CocoExport]) -> str:
    bare = [export for export in exports if not export.has_masks]
    if head is None:
        return "fasterrcnn" if bare else "maskrcnn"
    if bare and head not in HEADS_OF_BOXES:
        raise UserError(
            f"--head {head} learns masks, and not every object of {bare[0].path} has one: take one "
            f"of {', '.join(HEADS_OF_BOXES)}, or add the masks"
        )
    if head == "cascade":
        return "cascade_rcnn" if bare else "cascade_maskrcnn"
    return head


def _head_lines(base: str, arch: str, num_classes: int, anchors: Anchors | None) -> str:
    """The lines inside of ``model`` below the backbone: widths, anchors and classes.

    nano_12, which is there to try things on a CPU, has narrow heads.
    """
    channels = f"in_channels=[{ARCHS[arch].embed_dims}] * {3 if base == 'retinanet' else 4}"
    classes = f"num_classes={num_classes}"
    if anchors is None:
        things = f"num_things_classes={num_classes}, num_stuff_classes=0"
        loss = f"loss_cls=dict(class_weight=[1.0] * {num_classes} + [0.1])"
        head = f"    panoptic_head=dict({channels}, {things}, {loss}),"
        return f"{head}\n    panoptic_fusion_head=dict({things}),"
    scales, ratios = anchors
    neck, ratios = f"    neck=dict({channels}),", f"ratios={list(ratios)}"
    if base == "retinanet":
        shapes = f"anchor_generator=dict(octave_base_scale={scales[0]}, {ratios})"
        return f"{neck}\n    bbox_head=dict({classes}, {shapes}),"
    shapes = f"anchor_generator=dict(scales={list(scales)}, {ratios})"
    is_narrow = arch == "nano_12" and not base.startswith("cascade")
    of_boxes = of_masks = ""
    if is_narrow:
        neck = f"    neck=dict({channels}, out_channels=64),"
        shapes = f"in_channels=64, feat_channels=64, {shapes}"
        of_boxes = "in_channels=64, fc_out_channels=256, "
        of_masks = "in_channels=64, conv_out_channels=64, "
    box_head = "stages" if base.startswith("cascade") else f"dict({of_boxes}{classes})"
    heads = [f"bbox_head={box_head}"]
    if "mask" in base:
        heads.append(f"mask_head=dict({of_masks}{classes})")
    if is_narrow:
        kinds = [head.partition("_")[0] for head in heads]
        heads += [f"{kind}_roi_extractor=dict(out_channels=64)" for kind in kinds]
    roi_head = f"roi_head=dict({', '.join(heads)}),"
    return f"{neck}\n    rpn_head=dict({shapes}),\n    {roi_head}"
