"""The text of a config for segmentation: statements that inherit from our recipes, line by line."""

import json
import os
from collections.abc import Iterator, Sequence
from math import ceil
from pathlib import Path
from typing import NamedTuple

from xcit_dense.data.mask_classes import Classes
from xcit_dense.data.mask_folder import MaskFolder
from xcit_dense.mm.config import configs_of
from xcit_dense.network import resolve_arch
from xcit_dense.network.architectures import DROP_PATH_RATES
from xcit_dense.weights.published_weights import KIND_OF_THE_RELEASE, published_url

HEADS = {"upernet": 6e-5, "semfpn": 6e-5, "mask2former": 1e-4}
"""Learning rate of the recipe of each head, for 16 images a step."""
_RECIPE_BATCH = 16
_RECIPE_WARM_UP = 1500
_FEWEST_ITERATIONS = 20  # the schedule of fewer has no shape
_VALIDATIONS = 20
_LOG_INTERVAL = 50
_LINE_LENGTH = 100


class Split(NamedTuple):
    """Images of training or validation, all of one folder; relative paths without the suffix."""

    name: str
    folder: MaskFolder
    mask_root: Path
    images: list[str]
    labels: set[int]


def data_set_lines(
    classes: Classes,
    splits: Sequence[Split],
    suffixes: tuple[str, str],
    out: Path,
    has_names: bool,
    has_colours: bool,
) -> Iterator[str]:
    """The data set; names of classes in a file of their own, colours not at all, if so wanted."""
    metainfo = [f"classes={_quoted(beside(out, 'classes.txt'))}"]
    if has_names:
        metainfo = [_call("classes=(", [_quoted(name) for name in classes.names], ")")]
    if classes.palette and has_colours:
        metainfo.append(_call("palette=[", [str(colour) for colour in classes.palette], "]"))
    yield from _block("metainfo = dict(", metainfo, ")")
    dataset = [
        'type="BaseSegDataset"',
        "metainfo=metainfo",
        f"data_root={_quoted(root_of(splits))}",
    ]
    dataset += ["reduce_zero_label=True"] if classes.reduce_zero_label else []
    keys = zip(("img_suffix", "seg_map_suffix"), suffixes, strict=True)
    dataset += [f"{key}={_quoted(suffix)}" for key, suffix in keys]
    yield from _block("dataset = dict(", dataset, ")")


def root_of(splits: Sequence[Split]) -> str:
    """The innermost folder that has all images and masks."""
    folders = [split.folder for split in splits]
    return os.path.commonpath([f.images for f in folders] + [f.masks for f in folders])


def pipeline_lines(long: int, short: int) -> Iterator[str]:
    """Steps of training and testing, for images that are made to fit into these sides."""
    load, annotate, pack = (
        f'dict(type="{step}")' for step in ("LoadImageFromFile", "LoadAnnotations", "PackSegInputs")
    )
    size = f"scale=({long}, {short})"
    train = [
        load,
        annotate,
        f'dict(type="RandomResize", {size}, ratio_range=(0.5, 2.0), keep_ratio=True)',
        f'dict(type="RandomCrop", crop_size=({short}, {short}), cat_max_ratio=0.75)',
        'dict(type="RandomFlip", prob=0.5)',
        'dict(type="PhotoMetricDistortion")',
        pack,
    ]
    test = [load, f'dict(type="Resize", {size}, keep_ratio=True)', annotate, pack]
    yield from _block("train_pipeline = [", train, "]")
    yield from _block("test_pipeline = [", test, "]")


def loader_lines(splits: Sequence[Split], out: Path, batch_size: int) -> Iterator[str]:
    """The loaders; their data sets take the rest from ``dataset``."""
    root = root_of(splits)
    for split, step in zip(splits, ("train", "test"), strict=True):
        image, mask = (
            _quoted(os.path.relpath(path, root) if path.is_relative_to(root) else path)
            for path in (split.folder.images, split.mask_root)
        )
        prefixes = [f"img_path={image}", f"seg_map_path={mask}"]
        items = [
            "**dataset",
            f"pipeline={step}_pipeline",
            f"ann_file={_quoted(list_of(split.name, out))}",
            _call("data_prefix=dict(", prefixes, ")"),
        ]
        batch = f"batch_size={batch_size}, " if step == "train" else ""
        yield from _block(f"{split.name}_dataloader = dict({batch}dataset=dict(", items, "))")
    yield "test_dataloader = val_dataloader"


def base_of(head: str, arch: str, patch_size: int) -> str:
    """The config to inherit from: that of the backbone if there is one."""
    leaf = f"{head}/xcit_{arch}_p{patch_size}_{head}_ade20k.py"
    has_leaf = (configs_of("xcit_dense") / leaf).is_file()
    return leaf if has_leaf else f"{head}/xcit_small_12_p16_{head}_ade20k.py"


def model_lines(
    head: str, arch: str, patch_size: int, pretrained: bool, num_classes: int, side: int
) -> Iterator[str]:
    """What of the model differs from that of ``base_of``."""
    backbone, items = [], [f"data_preprocessor=dict(size=({side}, {side}))"]
    classes, dims = f"num_classes={num_classes}", resolve_arch(arch).embed_dims
    decode, auxiliary = [classes], [classes]
    if f"{arch}_p{patch_size}" not in base_of(head, arch, patch_size):
        drop_path = f"drop_path_rate={DROP_PATH_RATES.get(arch, 0.0)}"
        backbone += [f'arch="{arch}"', f"patch_size={patch_size}", drop_path]
        decode.append(f"in_channels=[{dims}] * 4")
        auxiliary.append(f"in_channels={dims}")
    if pretrained:
        url = published_url(KIND_OF_THE_RELEASE, arch, patch_size)
        backbone += ['init_cfg=dict(type="Pretrained"', f'checkpoint="{url}")']
    if backbone:
        items.append(_call("backbone=dict(", backbone, ")"))
    if head == "semfpn":
        items.append(f"neck=dict(in_channels=[{dims}] * 4, out_channels={dims})")
    if head == "mask2former":
        decode.append(f"loss_cls=dict(class_weight=[1.0] * {num_classes} + [0.1])")
    items.append(_call("decode_head=dict(", decode, ")"))
    if head == "upernet":
        items.append(_call("auxiliary_head=dict(", auxiliary, ")"))
    yield from _block("model = dict(", items, ")")


def schedule_lines(
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
    log = f"logger=dict(interval={min(_LOG_INTERVAL, an_epoch)})"
    yield from _block("default_hooks = dict(", [log, hooks], ")")


def beside(out: Path, part: str) -> Path:
    """Where a part of what belongs to a config goes."""
    return out.with_name(f"{out.stem}_{part}")


def list_of(name: str, out: Path) -> Path:
    """Where the names of the images of a split go."""
    return beside(out, f"{name}.txt")


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


def _call(opening: str, tokens: Sequence[str], closing: str) -> list[str]:
    """What stands in brackets, as an item that may be split."""
    *first, last = tokens
    first, last = [opening + token for token in first[:1]] + first[1:], last + closing
    return [*first, last] if first else [opening + last]


def _with_ends(tokens: list[str], end: str) -> list[str]:
    return [*(f"{token}," for token in tokens[:-1]), tokens[-1] + end]


def _quoted(text: str | Path) -> str:
    return json.dumps(str(text), ensure_ascii=False)
