"""A config that trains a segmentor on a folder of images and a folder of masks."""

import os
import random
from collections.abc import Iterator, Sequence
from math import ceil
from pathlib import Path
from statistics import median

from xcit_dense.atomic_files import write_atomically
from xcit_dense.data.label_maps import maps_of, write_label_maps
from xcit_dense.data.mask_classes import (
    Classes,
    find_classes,
    labels_in,
    listed,
    read_names,
    table_of,
)
from xcit_dense.data.mask_folder import MaskFolder, read_mask_folder
from xcit_dense.data.segmentation_text import (
    HEADS,
    Split,
    base_of,
    beside,
    data_set_lines,
    list_of,
    loader_lines,
    model_lines,
    pipeline_lines,
    schedule_lines,
)
from xcit_dense.errors import Finding, UserError
from xcit_dense.mm.data import IGNORED_LABEL

_EPOCHS = 100
_LARGEST_CROP = 512  # of the recipes
_COARSEST_STRIDE = 32
_MOST_LINES = 40


def write_segmentation_config(
    *,
    images: Sequence[Path],
    masks: Sequence[Path],
    out: Path,
    names: Path | None = None,
    arch: str = "small_12",
    patch_size: int = 16,
    head: str | None = None,
    scale: tuple[int, int] | None = None,
    batch_size: int = 2,
    gpus: int = 1,
    epochs: int | None = None,
    val_fraction: float = 0.1,
    seed: int = 0,
    pretrained: bool = True,
    ignore_label: str | int | None = None,
    img_suffix: str | None = None,
    seg_map_suffix: str | None = None,
    force: bool = False,
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
        head: of ``HEADS``; None for UperNet.
        scale: longer and shorter side that images are made to fit into, in pixels; crops are
            squares of the shorter one. None for that of most images, at most 512.
        batch_size: images of a GPU and step.
        gpus: processes; the learning rate follows the images of all.
        epochs: how often each image is seen; None for 100.
        val_fraction: part of the images for validation, where there is one folder.
        seed: of that choice.
        pretrained: whether the backbone starts from the release's ImageNet weights.
        ignore_label: value, or colour ``R,G,B``, that is left out besides 255.
        img_suffix: how names of images end; None to find that.
        seg_map_suffix: the same of masks.
        force: whether what an earlier call has written is replaced.

    Returns:
        The values with their classes, as a table, and what a user should know.

    Raises:
        UserError: data or options cannot be used; nothing is written then.
        OSError: a file cannot be written.
    """
    out, head = Path(os.path.abspath(out)), head or "upernet"
    maps = beside(out, "masks")
    _check(images, masks, head, batch_size * gpus)
    _refuse(out, force)
    lines = None if names is None else read_names(names)
    folders = [
        read_mask_folder(*pair, img_suffix, seg_map_suffix)
        for pair in zip(images, masks, strict=True)
    ]
    classes = find_classes(folders, lines, ignore_label)
    suffixes = {pair for folder in folders for pair in folder.suffixes}
    in_place = classes.fit_in_place and len(suffixes) == 1
    if not in_place:
        _refuse(maps, force)
    suffix, map_suffix = suffixes.pop() if in_place else ("", ".png")
    roots = [f.masks if in_place else maps_of(f, folders, maps) for f in folders]
    splits = list(_splits(folders, roots, classes, suffix, val_fraction, seed))
    long, short = scale or (4 * _proposed_side(folders), _proposed_side(folders))
    num_train, num_val = (len(split.images) for split in splits)
    after = [
        *pipeline_lines(long, short),
        *loader_lines(splits, out, batch_size),
        *model_lines(head, arch, patch_size, pretrained, len(classes.names), short),
        *schedule_lines(head, num_train, batch_size, gpus, epochs or _EPOCHS),
    ]
    files = {list_of(split.name, out): split.images for split in splits}
    for has_names, has_colours in ((True, True), (False, True), (False, False)):
        text = [
            f"# {len(classes.names)} classes, {num_train} images to train, {num_val} to validate",
            f'_base_ = "xcit_dense::{base_of(head, arch, patch_size)}"',
            *data_set_lines(classes, splits, (suffix, map_suffix), out, has_names, has_colours),
            *after,
        ]
        if len(text) <= _MOST_LINES:
            break
    if not has_names:
        files[beside(out, "classes.txt")] = classes.names
    files[out] = [*text, ""]
    findings = [*classes.findings, *_findings(folders, splits, classes, short)]
    if not in_place:
        write_label_maps(folders, classes, maps)
        findings.append(Finding(f"label maps are written into {maps}", is_wrong=False))
    for path, content in files.items():
        encoded = "\n".join(content).encode()
        write_atomically(path, lambda file, encoded=encoded: file.write(encoded))
    return table_of(folders, classes), findings


def _refuse(path: Path, force: bool) -> None:
    if path.exists() and not force:
        raise UserError(f"{path} is there already: name another by -o, or --force replaces it")


def _check(images: Sequence[Path], masks: Sequence[Path], head: str, batch: int) -> None:
    if len(images) != len(masks) or len(images) not in (1, 2):
        raise UserError(
            f"--images has {len(images)} folders and --masks {len(masks)}: wanted is one of each, "
            "or two, to train and to validate"
        )
    if head not in HEADS:
        raise UserError(f"--head {head}: of masks learn {', '.join(HEADS)}")
    if head == "upernet" and batch < 2:
        raise UserError(
            "--batch-size 1: UperNet normalizes one value an image, over 2 images a step or more"
        )


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


def _proposed_side(folders: Sequence[MaskFolder]) -> int:
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
        absent = {*classes.labels.values()} - split.labels - {IGNORED_LABEL}
        if absent:
            missing = listed(classes.names[label] for label in sorted(absent))
            text = f"classes in no image of the {split.name} split: {missing}"
            remedy = "try another --seed or --val-fraction" if len(folders) == 1 else ""
            yield Finding(text, remedy, is_wrong=False)
    shorter = _shorter_side(folders)
    if shorter > 1.5 * side:
        text = f"images shrink from {shorter:.0f} to {side} pixels on their shorter side"
        gone = f"what has {8 * shorter / side:.0f} pixels there keeps 8"
        yield Finding(f"{text}: {gone}", "a larger --scale keeps more, for more memory", False)
