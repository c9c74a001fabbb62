"""The config of a detector for a data set in COCO's format, and the files that it needs."""

import json
import os
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from xcit_dense.data import proposals
from xcit_dense.data.coco_export import CocoExport, is_superfluous
from xcit_dense.errors import UserError
from xcit_dense.network.architectures import ARCHS, DROP_PATH_RATES

TITLES = {
    "maskrcnn": "Mask R-CNN",
    "fasterrcnn": "Faster R-CNN",
    "cascade_maskrcnn": "Cascade Mask R-CNN",
    "cascade_rcnn": "Cascade R-CNN",
    "retinanet": "RetinaNet",
    "mask2former": "Mask2Former",
}
"""Of the configs in ``configs/own_data/``."""
HEADS_OF_MASKS = ("maskrcnn", "cascade", "mask2former")
HEADS_OF_BOXES = ("fasterrcnn", "cascade", "retinanet")
_LEAST_SIDE = 32  # of images that mmdet trains on: filter_cfg.min_size in the base


@dataclass
class DetectionConfig:
    """A config to write.

    Attributes:
        text: of the config.
        files: what else is to be written, by its path: annotation files in COCO's format.
        notes: what was found, mended and proposed, and why, a line each.
    """

    text: str
    files: dict[Path, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def detection_config(
    exports: Sequence[CocoExport],
    out: Path,
    title: str,
    head: str | None = None,
    arch: str = "small_12",
    patch_size: int = 16,
    weights: str | None = None,
    scale: tuple[int, int] | None = None,
    batch_size: int = 2,
    gpus: int = 1,
    epochs: int | None = None,
    val_fraction: float = 0.2,
    seed: int = 0,
    drop_empty: bool = False,
) -> DetectionConfig:
    """Write the config of a detector for one annotation file, or for two, to train and to validate.

    Args:
        exports: the files; one is divided, by image, with ``val_fraction`` and ``seed``.
        out: where the config will be; mended annotation files go to CONFIG_annotations/.
        title: first line of the config.
        head: one of ``HEADS_OF_MASKS`` or ``HEADS_OF_BOXES``; None: Mask R-CNN where every object
            has a mask, else Faster R-CNN.
        arch: of XCiT, by name.
        patch_size: 8 or 16.
        weights: path or URL of those that the backbone starts from.
        scale: long and short side of the images in pixels; None: proposed.
        batch_size: images on each GPU.
        gpus: how many.
        epochs: None: proposed.
        val_fraction: share of the images that are kept for validation.
        seed: of the division.
        drop_empty: whether categories without objects are no classes.

    Raises:
        UserError: nothing can be learned from the files, or not what the head learns.
    """
    notes: list[str] = []
    for export in exports:
        notes.append(f"{export.path}: {_numbers(export.content)}; images in {export.images}")
        notes += [f"  mended: {line}" for line in export.mended]
        notes += [f"  mind: {line}" for line in export.notes]
    has_masks = all(export.has_masks for export in exports)
    base = _base_of(head, has_masks, exports)
    train, val = exports if len(exports) == 2 else _divide(exports[0], val_fraction, seed, notes)
    classes = _classes_of(train, val, drop_empty, notes)
    sizes, boxes, num_images = _objects_of(train, classes)

    schedule = proposals.propose_schedule(num_images, batch_size, gpus, epochs)
    if scale is None:
        scale = proposals.propose_scale(sizes, boxes)
    is_retina, has_anchors = base == "retinanet", base != "mask2former"
    part = "bbox_head" if is_retina else "rpn_head"
    in_scale = proposals.scaled(sizes, boxes, scale)
    anchors = proposals.propose_anchors(in_scale, part) if has_anchors else None
    notes += _reasons(base, arch, weights, scale, num_images, train, in_scale, anchors, schedule)

    files = {}
    for split, export in (("train", train), ("val", val)):
        if export.mended:
            export.path = out.resolve().with_name(f"{out.stem}_annotations") / f"{split}.json"
            files[export.path] = export.content
            notes.append(f"written besides: {export.path} ({_numbers(export.content)})")
    model = _model_lines(base, len(classes), arch, patch_size, anchors)
    text = _text(title, base, classes, model, weights, scale, train, val, batch_size, schedule)
    return DetectionConfig(text, files, notes)


def _numbers(content: dict[str, Any]) -> str:
    numbers = (f"{len(content[name])} {name}" for name in ("images", "categories"))
    return f"{', '.join(numbers)}, {len(content['annotations'])} objects"


def _base_of(head: str | None, has_masks: bool, exports: Sequence[CocoExport]) -> str:
    if head is None:
        return "maskrcnn" if has_masks else "fasterrcnn"
    if head not in HEADS_OF_BOXES and not has_masks:
        bare = next(export for export in exports if not export.has_masks)
        raise UserError(
            f"--head {head} learns masks, and not every object of {bare.path} has one: take one of "
            f"{', '.join(HEADS_OF_BOXES)}, or add the masks"
        )
    if head == "cascade":
        return "cascade_maskrcnn" if has_masks else "cascade_rcnn"
    return head


def _divide(
    export: CocoExport, val_fraction: float, seed: int, notes: list[str]
) -> tuple[CocoExport, CocoExport]:
    """Divide one file by image; copies that Roboflow made of one image stay together."""
    groups: dict[str, list[dict]] = {}
    for record in export.content["images"]:
        groups.setdefault(record["file_name"].partition(".rf.")[0], []).append(record)
    if len(groups) < 2:
        raise UserError(f"{export.path}: one image cannot be divided: give two files to --coco")
    drawn = list(groups)
    Random(seed).shuffle(drawn)
    number = min(max(round(val_fraction * len(drawn)), 1), len(drawn) - 1)
    ids = {record["id"] for name in drawn[:number] for record in groups[name]}
    notes.append(
        f"validation: {len(ids)} of {len(export.content['images'])} images, drawn with --seed "
        f"{seed} (--val-fraction {val_fraction:g}, or give a second file to --coco)"
    )
    parts = []
    for is_val in (False, True):
        content = {
            **export.content,
            "images": [r for r in export.content["images"] if (r["id"] in ids) == is_val],
            "annotations": [
                r for r in export.content["annotations"] if (r["image_id"] in ids) == is_val
            ],
        }
        parts.append(CocoExport(export.path, export.images, content, ["divided"]))
    return parts[0], parts[1]


def _classes_of(
    train: CocoExport, val: CocoExport, drop_empty: bool, notes: list[str]
) -> list[str]:
    """The classes: categories of the training file that are more than a parent or the background.

    A category that the file of validation lacks is added there.
    """
    in_train, in_val = train.numbers_of_objects(), val.numbers_of_objects()
    categories = train.content["categories"]
    superfluous = [
        each["name"]
        for each in categories
        if is_superfluous(each, categories, in_train[each["name"]] + in_val.get(each["name"], 0))
    ]
    empty = [name for name, count in in_train.items() if not count and name not in superfluous]
    left_out = superfluous + (empty if drop_empty else [])
    classes = [name for name in in_train if name not in left_out]
    if not sum(in_train[name] for name in classes):
        raise UserError(f"{train.path}: has no objects to train on")
    counts = ", ".join(f"{name} ({in_train[name]}, {in_val.get(name, 0)})" for name in classes)
    notes.append(f"classes (objects to train and to validate on): {counts}")
    if superfluous:
        notes.append(f"no class: {', '.join(superfluous)}, the parent of others or the background")
    if empty:
        done = "left out" if drop_empty else "classes all the same, --drop-empty leaves them out"
        notes.append(f"mind: without objects to train on: {', '.join(empty)}: {done}")
    if unseen := [name for name in classes if in_train[name] and not in_val.get(name)]:
        notes.append(f"mind: no object to validate on: {', '.join(unseen)}: not in the metric")
    if unknown := [name for name in in_val if name not in in_train and in_val[name]]:
        notes.append(
            f"mind: in {val.path} only, so that nothing can learn them: {', '.join(unknown)}"
        )
    lacking = [name for name in classes if name not in in_val]
    if lacking:
        identity = max([each["id"] for each in val.content["categories"]], default=0)
        for number, name in enumerate(lacking, start=1):
            val.content["categories"].append({"id": identity + number, "name": name})
        val.mended.append("with the categories that it lacks")
        notes.append(f"  mended: {val.path} has no category {', '.join(lacking)}: added")
    return classes


def _objects_of(export: CocoExport, classes: list[str]) -> tuple[np.ndarray, np.ndarray, int]:
    """Sizes of images and boxes (N, 2) of N objects that are learned, and the number of images."""
    ids = {each["id"] for each in export.content["categories"] if each["name"] in classes}
    images = {
        record["id"]: (record["width"], record["height"])
        for record in export.content["images"]
        if min(record["width"], record["height"]) >= _LEAST_SIDE
    }
    learned = [
        record
        for record in export.content["annotations"]
        if record["category_id"] in ids
        and record["image_id"] in images
        and not record["iscrowd"]
        and min(record["bbox"][2:]) >= 1
    ]
    if not learned:
        raise UserError(
            f"{export.path}: no object can be learned: boxes need a pixel, and images "
            f"{_LEAST_SIDE} on each side"
        )
    sizes = np.array([images[record["image_id"]] for record in learned], float)
    boxes = np.array([record["bbox"][2:] for record in learned], float)
    return sizes, boxes, len({record["image_id"] for record in learned})


def _reasons(
    base: str,
    arch: str,
    weights: str | None,
    scale: tuple[int, int],
    num_images: int,
    train: CocoExport,
    boxes: np.ndarray,
    anchors: proposals.Anchors | None,
    schedule: proposals.Schedule,
) -> list[str]:
    """What is proposed, and why."""
    sizes = proposals.sizes_of(boxes)
    small = float(np.mean(sizes < proposals.SMALL))
    low, middle, high = np.percentile(sizes, (10, 50, 90))
    lines = [
        f"model: {TITLES[base]} with XCiT {arch}, starting from "
        + (
            f"{weights}, fetched when training begins (--no-pretrained: random weights)"
            if weights
            else "random weights"
        ),
        f"scale: images fit into {scale[0]}x{scale[1]}; a tenth of the objects are then smaller "
        f"than {low:.0f} pixels, half than {middle:.0f}, nine tenths than {high:.0f}, and "
        f"{small:.1%} than {proposals.SMALL}",
    ]
    if small > 0.05:
        lines.append(
            "mind: such objects are hardly found: a larger --scale, or tiles of the images"
        )
    if anchors:
        lines.append(
            f"anchors: scales {list(anchors.scales)}, ratios {list(anchors.ratios)}: "
            f"{anchors.unmatched:.1%} of the objects match none, of COCO's anchors "
            f"{anchors.unmatched_by_default:.1%}"
        )
    if other := len(train.content["images"]) - num_images:
        lines.append(f"{other} images without an object that can be learned are not trained on")
    tenths = "".join(f"; a tenth of that after epoch {step}" for step in schedule.steps)
    lines.append(
        f"schedule: {schedule.epochs} epochs of {schedule.iterations} steps with "
        f"{schedule.batch_size} images; learning rate {schedule.rate:g}, the recipe's 0.0001 for "
        f"{proposals.BASE_BATCH_SIZE} images; warm-up of {schedule.warm_up} steps{tenths}; "
        f"evaluated and saved at every epoch divisible by {schedule.interval}"
    )
    return lines


def _model_lines(
    base: str,
    number: int,
    arch: str,
    patch_size: int,
    anchors: proposals.Anchors | None,
) -> list[str]:
    """The lines inside of ``model``: backbone, widths, anchors and classes of every head."""
    levels = 3 if base == "retinanet" else 4
    channels = f"[{ARCHS[arch].embed_dims}] * {levels}"
    size = f'arch="{arch}", patch_size={patch_size}'
    rest = f"drop_path_rate={DROP_PATH_RATES.get(arch, 0.0)}, init_cfg=weights"
    lines = [f"backbone=dict({size}, {rest}),"]
    classes = f"num_classes={number}"
    if base == "mask2former":
        things = f"num_things_classes={number}, num_stuff_classes=0"
        weight = f"class_weight=[1.0] * {number} + [0.1]"
        head = f"in_channels={channels}, {things}, loss_cls=dict({weight})"
        return [*lines, f"panoptic_head=dict({head}),", f"panoptic_fusion_head=dict({things}),"]
    lines.append(f"neck=dict(in_channels={channels}),")
    ratios = f"ratios={list(anchors.ratios)}"
    if base == "retinanet":
        shapes = f"anchor_generator=dict(octave_base_scale={anchors.scales[0]}, {ratios})"
        return [*lines, f"bbox_head=dict({classes}, {shapes}),"]
    shapes = f"anchor_generator=dict(scales={list(anchors.scales)}, {ratios})"
    lines.append(f"rpn_head=dict({shapes}),")
    box_head = "stages" if base.startswith("cascade") else f"dict({classes})"
    mask_head = f", mask_head=dict({classes})" if "mask" in base else ""
    return [*lines, f"roi_head=dict(bbox_head={box_head}{mask_head}),"]


def _text(
    title: str,
    base: str,
    classes: list[str],
    model: list[str],
    weights: str | None,
    scale: tuple[int, int],
    train: CocoExport,
    val: CocoExport,
    batch_size: int,
    schedule: proposals.Schedule,
) -> str:
    paths = [train.path.resolve(), train.images, val.path.resolve(), val.images]
    root = os.path.commonpath(paths)
    root = "" if root == os.sep else f"{root}/"  # such paths are easier to read whole
    places = [_quoted(str(path).removeprefix(root)) for path in paths]
    pipelines = ["train_pipeline", "test_pipeline"]
    train_data, val_data = (
        f"ann_file={file}, data_prefix=dict(img={folder}), pipeline={pipeline}"
        for file, folder, pipeline in zip(places[::2], places[1::2], pipelines, strict=True)
    )
    long, short = scale
    sides = sorted({max(32 * round(short * share / 320), 32) for share in range(6, 10)} | {short})
    masks, metric = (", with_mask=True", "segm") if "mask" in base else ("", "bbox")
    own = "data_root=data_root, metainfo=metainfo"
    source = f'dict(type="Pretrained", checkpoint={_quoted(weights)})' if weights else None
    stages = "stages = [dict(head, {}) for head in _base_.model.roi_head.bbox_head]"
    stages = stages.format(f"num_classes={len(classes)}")
    warm_up = f'"LinearLR", start_factor=0.001, by_epoch=False, end={schedule.warm_up}'
    steps = f'"MultiStepLR", milestones={list(schedule.steps)}, gamma=0.1, end={schedule.epochs}'
    lines = [
        f"# {' '.join(title.split())}",
        f'_base_ = "xcit_dense::own_data/{base}.py"',
        f"data_root = {_quoted(root)}",
        *_class_lines(classes),
        f"weights = {source}",
        *([stages] if base.startswith("cascade") else []),
        "model = dict(",
        *(f"    {line}" for line in model),
        ")",
        f"scales = [{', '.join(f'({long}, {side})' for side in sides)}]",
        "train_pipeline = [",
        '    dict(type="LoadImageFromFile"),',
        f'    dict(type="LoadAnnotations", with_bbox=True{masks}),',
        '    dict(type="RandomChoiceResize", scales=scales, keep_ratio=True),',
        '    dict(type="RandomFlip", prob=0.5),',
        '    dict(type="PackDetInputs"),',
        "]",
        f'resize = dict(type="Resize", scale=({long}, {short}), keep_ratio=True)',
        "test_pipeline = [_base_.test_pipeline[0], resize, *_base_.test_pipeline[2:]]",
        "tta = [[resize], *_base_.tta_pipeline[1].transforms[1:]]",
        'tta_pipeline = [_base_.tta_pipeline[0], dict(type="TestTimeAug", transforms=tta)]',
        f"train_data = dict({train_data})",
        f"val_data = dict({val_data})",
        f"train_dataloader = dict(batch_size={batch_size}, dataset=dict(train_data, {own}))",
        f"val_dataloader = test_dataloader = dict(dataset=dict(val_data, {own}))",
        f"val_evaluator = test_evaluator = dict(ann_file=data_root + {places[2]})",
        f"train_cfg = dict(max_epochs={schedule.epochs}, val_interval={schedule.interval})",
        f"optim_wrapper = dict(optimizer=dict(lr={schedule.rate!r}))",
        f"auto_scale_lr = dict(base_batch_size={schedule.batch_size})",
        f"warm_up = dict(type={warm_up})",
        f"param_scheduler = [warm_up, dict(type={steps})]",
        f'saving = dict(interval={schedule.interval}, save_best="coco/{metric}_mAP")',
        f"default_hooks = dict(logger=dict(interval={schedule.log_interval}), checkpoint=saving)",
    ]
    return "\n".join(lines) + "\n"


def _class_lines(classes: list[str]) -> list[str]:
    """The line of ``metainfo``, or up to five where there are many classes."""
    blank = "\0"  # within names, where no line ends
    names = [_quoted(name).replace(" ", blank) for name in classes]
    line = f"metainfo = dict(classes=({', '.join(names)}{',' if len(names) == 1 else ''}))"
    width = max(100, len(line) // 4)
    lines = textwrap.wrap(
        line, width, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )
    return [line.replace(blank, " ") for line in lines]


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
