"""The config of a detector for a data set in COCO's format, and the files that it needs."""

import json
import os
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from xcit_dense.data import proposals
from xcit_dense.data.coco_export import CocoExport
from xcit_dense.data.learned_objects import classes_of, divide, objects_of
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


@dataclass(frozen=True)
class _Detector:
    """What the config is of; values as for ``detection_config``, ``base`` as in ``TITLES``."""

    base: str
    arch: str
    patch_size: int
    weights: str | None
    classes: list[str]
    scale: tuple[int, int]
    anchors: proposals.Anchors | None

    @property
    def learns_masks(self) -> bool:
        return "mask" in self.base


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
        notes.append(f"{export.path}: {export.numbers()}; images in {export.images}")
        notes += [f"  mended: {line}" for line in export.mended]
        notes += [f"  mind: {line}" for line in export.notes]
    has_masks = all(export.has_masks for export in exports)
    base = _base_of(head, has_masks, exports)
    train, val = exports if len(exports) == 2 else divide(exports[0], val_fraction, seed, notes)
    classes = classes_of(train, val, drop_empty, notes)
    sizes, boxes, num_images = objects_of(train, classes)

    schedule = proposals.propose_schedule(num_images, batch_size, gpus, epochs)
    scale = scale or proposals.propose_scale(sizes, boxes)
    in_scale = proposals.scaled(sizes, boxes, scale)
    part = {"retinanet": "bbox_head", "mask2former": None}.get(base, "rpn_head")
    anchors = proposals.propose_anchors(in_scale, part) if part else None
    detector = _Detector(base, arch, patch_size, weights, classes, scale, anchors)
    notes += _reasons(detector, in_scale, schedule)
    if unused := len(train.content["images"]) - num_images:
        notes.append(f"{unused} images without an object that can be learned are not trained on")

    files = {}
    for split, export in (("train", train), ("val", val)):
        if export.mended:
            export.path = out.resolve().with_name(f"{out.stem}_annotations") / f"{split}.json"
            files[export.path] = export.content
            notes.append(f"written besides: {export.path} ({export.numbers()})")
    text = _text(title, detector, train, val, batch_size, schedule)
    return DetectionConfig(text, files, notes)


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


def _reasons(detector: _Detector, boxes: np.ndarray, schedule: proposals.Schedule) -> list[str]:
    """What is proposed, and why."""
    sizes = proposals.sizes_of(boxes)
    small = float(np.mean(sizes < proposals.SMALL))
    low, middle, high = np.percentile(sizes, (10, 50, 90))
    start = "random weights"
    if detector.weights:
        start = f"{detector.weights}, fetched when training begins (--no-pretrained: {start})"
    lines = [
        f"model: {TITLES[detector.base]} with XCiT {detector.arch}, starting from {start}",
        f"scale: images fit into {detector.scale[0]}x{detector.scale[1]}; a tenth of the objects "
        f"are then smaller than {low:.0f} pixels, half than {middle:.0f}, nine tenths than "
        f"{high:.0f}, and {small:.1%} than {proposals.SMALL}",
    ]
    if small > 0.05:
        lines.append(
            "mind: such objects are hardly found: a larger --scale, or tiles of the images"
        )
    if anchors := detector.anchors:
        lines.append(
            f"anchors: scales {list(anchors.scales)}, ratios {list(anchors.ratios)}: "
            f"{anchors.unmatched:.1%} of the objects match none, of COCO's anchors "
            f"{anchors.unmatched_by_default:.1%}"
        )
    tenths = "".join(f"; a tenth of that after epoch {step}" for step in schedule.steps)
    lines.append(
        f"schedule: {schedule.epochs} epochs of {schedule.iterations} steps with "
        f"{schedule.batch_size} images; learning rate {schedule.rate:g}, the recipe's 0.0001 for "
        f"{proposals.BASE_BATCH_SIZE} images; warm-up of {schedule.warm_up} steps{tenths}; "
        f"evaluated and saved at every epoch divisible by {schedule.interval}"
    )
    return lines


def _model_lines(detector: _Detector) -> list[str]:
    """The lines inside of ``model``: backbone, widths, anchors and classes of every head."""
    base, arch, anchors = detector.base, detector.arch, detector.anchors
    number = len(detector.classes)
    channels = f"[{ARCHS[arch].embed_dims}] * {3 if base == 'retinanet' else 4}"
    size = f'arch="{arch}", patch_size={detector.patch_size}'
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
    mask_head = f", mask_head=dict({classes})" if detector.learns_masks else ""
    return [*lines, f"roi_head=dict(bbox_head={box_head}{mask_head}),"]


def _text(
    title: str,
    detector: _Detector,
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
    base, weights, (long, short) = detector.base, detector.weights, detector.scale
    sides = sorted({max(32 * round(short * share / 320), 32) for share in range(6, 10)} | {short})
    masks, metric = (", with_mask=True", "segm") if detector.learns_masks else ("", "bbox")
    own = "data_root=data_root, metainfo=metainfo"
    source = f'dict(type="Pretrained", checkpoint={_quoted(weights)})' if weights else None
    stages = (
        f"stages = [dict(head, num_classes={len(detector.classes)}) "
        "for head in _base_.model.roi_head.bbox_head]"
    )
    warm_up = f'"LinearLR", start_factor=0.001, by_epoch=False, end={schedule.warm_up}'
    steps = f'"MultiStepLR", milestones={list(schedule.steps)}, gamma=0.1, end={schedule.epochs}'
    lines = [
        f"# {' '.join(title.split())}",
        f'_base_ = "xcit_dense::own_data/{base}.py"',
        f"data_root = {_quoted(root)}",
        *_class_lines(detector.classes),
        f"weights = {source}",
        *([stages] if base.startswith("cascade") else []),
        "model = dict(",
        *(f"    {line}" for line in _model_lines(detector)),
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
