"""A config that trains a segmentor on a folder of images and a folder of masks."""

import json
import os
import random
import shutil
from collections.abc import Iterable, Iterator, Sequence
from math import ceil
from pathlib import Path
from statistics import median
from typing import NamedTuple

from xcit_dense.atomic_files import write_atomically
from xcit_dense.data.mask_classes import (
    Classes,
    find_classes,
    labels_in,
    listed,
    read_names,
    table_of,
    write_label_maps,
)
from xcit_dense.data.mask_folder import MaskFolder, read_mask_folder
from xcit_dense.errors import Finding, UserError
from xcit_dense.mm.config import configs_of
from xcit_dense.network import resolve_arch
from xcit_dense.swap.plan import DROP_PATH_RATES
from xcit_dense.weights.published_weights import KIND_OF_THE_RELEASE, published_url

HEADS = {"upernet": 6e-5, "semfpn": 6e-5, "mask2former": 1e-4}
"""Learning rate of the recipe of each head, for 16 images a step."""
_RECIPE_BATCH = 16
_RECIPE_WARM_UP = 1500
_FEWEST_ITERATIONS = 20  # the schedule of fewer has no shape
_VALIDATIONS = 20
_LARGEST_CROP = 512  # of the recipes
_COARSEST_STRIDE = 32
_MOST_WRITTEN = 24  # classes that are named in the config itself
_LINE_LENGTH = 100


class Split(NamedTuple):
    """Images of training or validation, all of one folder; relative paths without the suffix."""

    name: str
    folder: MaskFolder
    mask_root: Path
    images: list[str]
    labels: set[int]


def write_segmentation_config(
    *,
    images: Sequence[Path],
    masks: Sequence[Path],
    out: Path,
    names: Path | None = None,
    arch: str = "small_12",
    patch_size: int = 16,
    head: str = "upernet",
    scale: int | None = None,
    batch_size: int = 2,
    gpus: int = 1,
    epochs: int = 100,
    val_fraction: float = 0.1,
    seed: int = 0,
    pretrained: bool = True,
    ignore_label: str | int | None = None,
    img_suffix: str | None = None,
    seg_map_suffix: str | None = None,
) -> tuple[str, list[Finding]]:
    """Write a config that trains a segmentor on images and masks, and the files that it names.

    Beside ``out`` go ``NAME_train.txt`` and ``NAME_val.txt``, the images of each split, and
    ``NAME_masks``, label maps, where mmseg cannot read the masks as they are: numbers other than
    0, 1, ... and 255, colours, names that are not those of the images with one suffix. Images and
    masks stay as they are.

    Args:
        images: folder of the images; a second one is for validation.
        masks: folder of the masks of each.
        out: the config to write.
        names: file with the name of a class a line; see ``read_names``.
        arch: of the backbone.
        patch_size: 8 or 16.
        head: of ``HEADS``.
        scale: shorter side in pixels that images are brought to, and the side of the crops; None
            for that of most images, at most 512.
        batch_size: images of a GPU and step.
        gpus: processes; the learning rate follows the images of all.
        epochs: how often each image is seen.
        val_fraction: part of the images for validation, where there is one folder.
        seed: of that choice.
        pretrained: whether the backbone starts from the release's ImageNet weights.
        ignore_label: value, or colour ``R,G,B``, that is left out besides 255.
        img_suffix: how names of images end; None to find that.
        seg_map_suffix: the same of masks.

    Returns:
        The values with their classes, as a table, and what a user should know.

    Raises:
        UserError: data or options cannot be used; nothing is written then.
        OSError: a file cannot be written; nothing is left then.
    """
    out = Path(os.path.abspath(out))
    maps = _beside(out, "masks")
    _check(images, masks, head, batch_size * gpus, [out, maps])
    lines = None if names is None else read_names(names)
    folders = [
        read_mask_folder(*pair, img_suffix, seg_map_suffix)
        for pair in zip(images, masks, strict=True)
    ]
    classes = find_classes(folders, lines, ignore_label)
    suffixes = {pair for folder in folders for pair in folder.suffixes}
    in_place = classes.fit_in_place and len(suffixes) == 1
    suffix, map_suffix = suffixes.pop() if in_place else ("", ".png")
    roots = [f.masks if in_place else _maps_of(f, folders, maps) for f in folders]
    splits = list(_splits(folders, roots, classes, suffix, val_fraction, seed))
    side = scale or _proposed_scale(folders)
    findings = [*classes.findings, *_findings(folders, splits, classes, side)]
    if not in_place:
        findings.append(Finding(f"label maps are written into {maps}", is_wrong=False))
    files = {_list_of(split, out): "\n".join(split.images) for split in splits}
    if len(classes.names) > _MOST_WRITTEN:
        files[_beside(out, "classes.txt")] = "\n".join(classes.names)
    num_train, num_val = (len(split.images) for split in splits)
    title = f"# {len(classes.names)} classes; {num_train} images to train on, {num_val} to validate"
    base, model = _base_and_model_lines(head, arch, patch_size, pretrained, len(classes.names))
    data = _data_lines(classes, splits, out, (suffix, map_suffix), side, batch_size)
    schedule = _schedule_lines(head, num_train, batch_size, gpus, epochs)
    files[out] = "\n".join([title, base, *data, *model, *schedule, ""])
    try:
        for folder, root in zip(folders, roots, strict=True):
            if not in_place:
                write_label_maps(folder, classes, root)
        for path, text in files.items():
            write_atomically(path, lambda file, text=text: file.write(text.encode()))
    except BaseException:
        shutil.rmtree(maps, ignore_errors=True)
        raise
    return table_of(folders, classes), findings


def _check(
    images: Sequence[Path], masks: Sequence[Path], head: str, batch: int, new: Iterable[Path]
) -> None:
    if len(images) != len(masks) or len(images) not in (1, 2):
        raise UserError(
            f"--images has {len(images)} folders and --masks {len(masks)}: wanted is one of each, "
            "or two, for training and for validation"
        )
    if head not in HEADS:
        raise UserError(f"--head {head}: of masks learn {', '.join(HEADS)}")
    if head == "upernet" and batch < 2:
        raise UserError(
            "--batch-size 1: UperNet normalizes one value an image, over 2 images a step or more"
        )
    for path in new:
        if path.exists():
            raise UserError(f"{path} is there already: remove it, or choose another --out")


def _maps_of(folder: MaskFolder, folders: Sequence[MaskFolder], maps: Path) -> Path:
    """Where the label maps of a folder go."""
    return maps / ("train", "val")[folders.index(folder)] if len(folders) > 1 else maps


def _splits(
    folders: Sequence[MaskFolder],
    roots: Sequence[Path],
    classes: Classes,
    suffix: str,
    val_fraction: float,
    seed: int,
) -> Iterator[Split]:
    count = len(folders[0].pairs)
    order = list(range(count))
    if len(folders) == 1:
        if count < 2 or not 0 < val_fraction < 1:
            raise UserError(
                f"--val-fraction {val_fraction} of {count} images: wanted is a part between 0 and "
                "1 of two images at least, or a second folder for validation"
            )
        random.Random(seed).shuffle(order)
        held = min(max(round(count * val_fraction), 1), count - 1)
        chosen = [(0, sorted(order[held:])), (0, sorted(order[:held]))]
    else:
        chosen = [(index, range(len(folder.pairs))) for index, folder in enumerate(folders)]
    for name, (number, indices) in zip(("train", "val"), chosen, strict=True):
        folder = folders[number]
        labels = set().union(*(labels_in(folder.contents[i], classes) for i in indices))
        images = [folder.pairs[index][0].removesuffix(suffix) for index in indices]
        yield Split(name, folder, roots[number], images, labels)


def _proposed_scale(folders: Sequence[MaskFolder]) -> int:
    multiples = ceil(_shorter_side(folders) / _COARSEST_STRIDE)
    return min(multiples * _COARSEST_STRIDE, _LARGEST_CROP)


def _shorter_side(folders: Sequence[MaskFolder]) -> float:
    return median(min(content.image_size) for folder in folders for content in folder.contents)


def _findings(
    folders: Sequence[MaskFolder], splits: Sequence[Split], classes: Classes, side: int
) -> Iterator[Finding]:
    for folder in folders:
        for what, root, names in (
            ("images without a mask", folder.images, folder.without_mask),
            ("masks without an image", folder.masks, folder.without_image),
        ):
            if names:
                text = f"{root}: {len(names)} {what}, left out: {listed(names, 3)}"
                yield Finding(text, "see their names, and --img-suffix", is_wrong=False)
    for split in splits:
        missing = [n for label, n in enumerate(classes.names) if label not in split.labels]
        if missing and len(missing) < len(classes.names):
            text = f"classes in no image of the {split.name} split: {listed(missing)}"
            yield Finding(text, "try another --seed or --val-fraction", is_wrong=False)
    shorter = _shorter_side(folders)
    if shorter > 1.5 * side:
        text = f"images shrink from {shorter:.0f} to {side} pixels on their shorter side"
        gone = f"what has {8 * shorter / side:.0f} pixels there keeps 8"
        yield Finding(f"{text}: {gone}", "a larger --scale keeps more, for more memory", False)


def _data_lines(
    classes: Classes,
    splits: Sequence[Split],
    out: Path,
    suffixes: tuple[str, str],
    side: int,
    batch_size: int,
) -> Iterator[str]:
    names = [_quoted(name) for name in classes.names]
    if len(names) > _MOST_WRITTEN:
        metainfo = [f"classes={_quoted(_beside(out, 'classes.txt'))}"]
    else:
        metainfo = [[f"classes=({names[0]}", *names[1:-1], f"{names[-1]})"]]
        if colours := [str(tuple(colour)) for colour in classes.palette or ()]:
            metainfo.append([f"palette=[{colours[0]}", *colours[1:-1], f"{colours[-1]}]"])
    yield from _block("metainfo = dict(", metainfo, ")")
    root = os.path.commonpath(
        [p for split in splits for p in (split.folder.images, split.mask_root)]
    )
    dataset = ['type="BaseSegDataset"', "metainfo=metainfo", f"data_root={_quoted(root)}"]
    dataset += ["reduce_zero_label=True"] if classes.reduce_zero_label else []
    keys = zip(("img_suffix", "seg_map_suffix"), suffixes, strict=True)
    dataset += [f"{key}={_quoted(suffix)}" for key, suffix in keys]
    yield from _block("dataset = dict(", dataset, ")")
    yield f"crop_size = ({side}, {side})"
    load, annotate, pack = (
        f'dict(type="{step}")' for step in ("LoadImageFromFile", "LoadAnnotations", "PackSegInputs")
    )
    size = f"scale=({4 * side}, {side})"
    train_steps = [
        load,
        annotate,
        f'dict(type="RandomResize", {size}, ratio_range=(0.5, 2.0), keep_ratio=True)',
        'dict(type="RandomCrop", crop_size=crop_size, cat_max_ratio=0.75)',
        'dict(type="RandomFlip", prob=0.5)',
        'dict(type="PhotoMetricDistortion")',
        pack,
    ]
    test_steps = [load, f'dict(type="Resize", {size}, keep_ratio=True)', annotate, pack]
    yield from _block("train_pipeline = [", train_steps, "]")
    yield from _block("test_pipeline = [", test_steps, "]")
    for split, steps in zip(splits, ("train_pipeline", "test_pipeline"), strict=True):
        image, mask = (
            _quoted(os.path.relpath(path, root) if path.is_relative_to(root) else path)
            for path in (split.folder.images, split.mask_root)
        )
        batch = f"batch_size={batch_size}, " if steps == "train_pipeline" else ""
        items = ["**dataset", f"pipeline={steps}", f"ann_file={_quoted(_list_of(split, out))}"]
        items.append([f"data_prefix=dict(img_path={image}", f"seg_map_path={mask})"])
        yield from _block(f"{split.name}_dataloader = dict({batch}dataset=dict(", items, "))")
    yield "test_dataloader = val_dataloader"


def _base_and_model_lines(
    head: str, arch: str, patch_size: int, pretrained: bool, num_classes: int
) -> tuple[str, list[str]]:
    """The config to inherit from, that of the architecture if there is one; and the model."""
    leaf = f"{head}/xcit_{arch}_p{patch_size}_{head}_ade20k.py"
    backbone, neck, width = [f"patch_size={patch_size}"], [], ""
    if not (configs_of("xcit_dense") / leaf).is_file():
        leaf = f"{head}/xcit_small_12_p16_{head}_ade20k.py"
        dims = resolve_arch(arch).embed_dims
        drop_path = f"drop_path_rate={DROP_PATH_RATES.get(arch, 0.0)}"
        backbone = [f'arch="{arch}"', *backbone, drop_path]
        width = f", in_channels=[{dims}] * 4"
        neck = [f"neck=dict(in_channels=[{dims}] * 4, out_channels={dims})"] * (head == "semfpn")
    if pretrained:
        url = published_url(KIND_OF_THE_RELEASE, arch, patch_size)
        backbone += ['init_cfg=dict(type="Pretrained"', f'checkpoint="{url}")']
    backbone = [[f"backbone=dict({backbone[0]}", *backbone[1:-1], f"{backbone[-1]})"]]
    classes = f"num_classes={num_classes}"
    decode = [f"decode_head=dict({classes}{width}"]
    if head == "mask2former":
        decode.append(f"loss_cls=dict(class_weight=[1.0] * {num_classes} + [0.1])")
    decode[-1] += ")"
    items = ["data_preprocessor=dict(size=crop_size)", *backbone, *neck, decode]
    if head == "upernet":
        items.append(f"auxiliary_head=dict({classes}{width.replace('[', '').replace('] * 4', '')})")
    return f'_base_ = "xcit_dense::{leaf}"', list(_block("model = dict(", items, ")"))


def _schedule_lines(
    head: str, num_images: int, batch_size: int, gpus: int, epochs: int
) -> Iterator[str]:
    """Learning rate by the images of a step; warm-up and intervals by the length of training."""
    batch = batch_size * gpus
    an_epoch = ceil(num_images / batch)
    iterations = max(epochs * an_epoch, _FEWEST_ITERATIONS)
    interval = ceil(iterations / min(epochs, _VALIDATIONS))
    iterations = ceil(iterations / interval) * interval
    warm_up = min(_RECIPE_WARM_UP, iterations // 10)
    rate = HEADS[head] * batch / _RECIPE_BATCH
    yield f"optim_wrapper = dict(optimizer=dict(lr={rate:.3g}))  # of {batch} images a step"
    yield f"auto_scale_lr = dict(base_batch_size={batch})"
    yield f"train_cfg = dict(max_iters={iterations}, val_interval={interval})"
    yield from _block(
        "param_scheduler = [",
        [
            f'dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end={warm_up})',
            f'dict(type="PolyLR", power=1.0, by_epoch=False, begin={warm_up}, end={iterations})',
        ],
        "]",
    )
    hooks = f'checkpoint=dict(interval={interval}, max_keep_ckpts=3, save_best="mIoU")'
    log = f"logger=dict(interval={min(50, an_epoch)})"
    yield from _block("default_hooks = dict(", [log, hooks], ")")


def _beside(out: Path, part: str) -> Path:
    return out.with_name(f"{out.stem}_{part}")


def _list_of(split: Split, out: Path) -> Path:
    return _beside(out, f"{split.name}.txt")


def _block(opening: str, items: Sequence[str | list[str]], closing: str) -> Iterator[str]:
    """A statement, on one line if it fits, else with as many of its items on a line as fit.

    Items that are lists are split where they are too long for a line.
    """
    parts = [[item] if isinstance(item, str) else item for item in items]
    line = opening + ", ".join(token for part in parts for token in part) + closing
    if len(line) <= _LINE_LENGTH:
        yield line
        return
    yield opening
    line = ""
    for part in parts:
        end = closing if part is parts[-1] else ","
        whole = ", ".join(part) + end
        if line and len(f"    {line} {whole}") > _LINE_LENGTH:
            yield f"    {line}"
            line = ""
        for token in [whole] if len(f"    {whole}") <= _LINE_LENGTH else _with_ends(part, end):
            if line and len(f"    {line} {token}") > _LINE_LENGTH:
                yield f"    {line}"
                line = "   "
            line = f"{line} {token}" if line else token
    yield f"    {line}"


def _with_ends(tokens: list[str], end: str) -> list[str]:
    return [*(f"{token}," for token in tokens[:-1]), tokens[-1] + end]


def _quoted(text: str | Path) -> str:
    return json.dumps(str(text), ensure_ascii=False)
