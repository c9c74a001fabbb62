"""Checks of a data set with its files: boxes, filters, images and label maps that are there.

What a single record of a file in COCO's format may hold is in ``mm/coco_checks.py``.
"""

import filecmp
import os.path as osp
from collections import defaultdict
from collections.abc import Iterator
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray

from xcit_dense.data.data_sets import Data, DataSet, names_in
from xcit_dense.errors import Finding, listed
from xcit_dense.mm.config import type_name

_MANY = 0.01
"""The share of objects from which on it is told that a filter takes them."""


def boxes_are_of_coco(data_set: DataSet) -> Iterator[Finding]:
    """Boxes are [left, top, width, height] in pixels of their image."""
    objects, file = data_set.objects, data_set.file
    if not len(objects.boxes):
        return
    corner, extent = objects.boxes[:, :2], objects.boxes[:, 2:]
    if objects.are_parts:
        text = f"{file}: no box reaches beyond 1, such as "
        text += f"{_places(data_set, objects.image >= 0)}; they look like parts of the image's size"
        yield Finding(text, "write bbox as [left, top, width, height] in pixels")
        return
    leaves = (corner + extent > objects.sizes[objects.image] + 1).any(1)
    if leaves.mean() > 0.5:
        text = f"{file}: {leaves.sum()} of {len(leaves)} boxes leave their image, such as "
        text += f"{_places(data_set, leaves)}; objects would be learnt at wrong places"
        if (extent >= corner).all(1).mean() > 0.95:
            yield Finding(
                f"{text}; they look like corners [left, top, right, bottom]",
                "write bbox as [left, top, width, height]",
            )
        else:
            yield Finding(
                f"{text}; they were drawn on images of another size, or width and height are "
                "exchanged",
                "write the sizes of the images on which they were drawn, and use these images",
            )


def _places(data_set: DataSet, which: NDArray[np.bool_]) -> str:
    records, images = data_set.content["annotations"], data_set.content["images"]
    return ", ".join(
        f"annotations[{index}] (id {records[index]['id']}, "
        f"{images[data_set.objects.image[index]]['file_name']}) {records[index]['bbox']}"
        for index in np.flatnonzero(which)[:3]
    )


def something_is_learnt(data_set: DataSet) -> Iterator[Finding]:
    """A file for training has objects to learn from; some of a semi-supervised training do not."""
    objects = data_set.objects
    lost = len(objects.label) > 0 and (objects.label < 0).all()  # told by classes_are_categories
    lost |= objects.are_parts  # told by boxes_are_of_coco
    if data_set.split == "train" and not objects.is_used.any() and not lost:
        yield Finding(
            f"{data_set.file}: {len(objects.boxes)} objects and none to learn from: "
            f"{(objects.label < 0).sum()} are of no class, {objects.is_crowd.sum()} are crowds, "
            f"{(~objects.has_extent).sum()} have a box smaller than a pixel or outside",
            "is it the file of a test set? Name one with annotations; write iscrowd=0 for single "
            "objects, and bbox as [left, top, width, height] in pixels",
            is_wrong=len(objects.boxes) > 0 or data_set.path == "train_dataloader.dataset",
        )


def images_are_there(data_set: DataSet) -> Iterator[Finding]:
    """Every image that an annotation file lists is in its folder."""
    lacking = [file for file in data_set.image_files if not osp.isfile(file)]
    if not lacking:
        return
    stem = PurePath(lacking[0].replace("\\", "/")).stem
    folders = dict.fromkeys([data_set.folder("img"), data_set.node.get("data_root") or "."])
    there = (osp.join(folder, name) for folder in folders for name in names_in(folder, ""))
    same = next((file for file in there if PurePath(file).stem == stem), None)
    hint = f"{same} is there: " if same else ""
    yield Finding(
        f"{data_set.file}: {len(lacking)} of its {len(data_set.image_files)} images are missing, "
        f"such as {listed(lacking)}; training ends where it meets one",
        f"{hint}correct data_prefix=dict(img=...), or file_name in the annotations",
    )


def filters_leave_objects(data_set: DataSet) -> Iterator[Finding]:
    """Filters of data set and pipeline take few objects."""
    objects, path = data_set.objects, data_set.path
    if data_set.split != "train" or not objects.is_used.any():
        return
    least = (data_set.node.get("filter_cfg") or {}).get("min_size", 0)
    of_small = objects.is_used & (objects.sizes.min(1) < least)[objects.image]
    yield from _lost(data_set, f"{path}.filter_cfg.min_size", of_small)
    scale = np.ones_like(objects.boxes[:, 2:])
    for step in data_set.steps:
        if type_name(step) in ("Resize", "RandomChoiceResize", "RandomResize"):
            scale = _scale_of(step, objects.sizes)[objects.image]
        elif type_name(step) == "FilterAnnotations" and step.get("by_box", True):
            least = step.get("min_gt_bbox_wh", (1, 1))
            small = objects.is_used & (objects.boxes[:, 2:] * scale < least).any(1)
            yield from _lost(data_set, f"{path}: FilterAnnotations.min_gt_bbox_wh", small)


def _lost(data_set: DataSet, which: str, lost: NDArray[np.bool_]) -> Iterator[Finding]:
    used = data_set.objects.is_used.sum()
    if lost.sum() > _MANY * used:
        text = f"{which} leaves out {lost.sum()} of {used} objects, such as "
        yield Finding(f"{text}{_places(data_set, lost)}", "lower it", bool(lost.sum() == used))


def _scale_of(step: dict, sizes: NDArray[np.int_]) -> NDArray[np.float64]:
    """Factors of width and height of each image, at the largest scale of a step, (I, 2)."""
    scales = step.get("scale") or step.get("scales")
    if scales is None:
        return np.full(sizes.shape, step.get("scale_factor") or 1.0)
    largest = max(scales if isinstance(scales[0], (list, tuple)) else [scales], key=min)
    if step.get("keep_ratio", type_name(step) == "RandomChoiceResize"):
        fits = np.minimum(max(largest) / sizes.max(1), min(largest) / sizes.min(1))
        return np.column_stack([fits, fits])
    return np.array(largest) / sizes


def label_maps_are_there(data_set: DataSet) -> Iterator[Finding]:
    """A data set of mmseg has images, each with a label map, and no map is left over."""
    wanted = data_set.label_map_files
    if not wanted:
        folder, suffix = data_set.folder("img_path"), data_set.default("img_suffix")
        text = f"{data_set.path}: no file in {folder} ends with img_suffix={suffix!r}; there are "
        yield Finding(
            f"{text}{listed(names_in(folder, '')) or 'none'}: there is nothing to learn from",
            "correct img_suffix or data_prefix",
        )
    elif lacking := [file for file in wanted if not osp.isfile(file)]:
        there = listed(names_in(data_set.folder("seg_map_path"), "")) or "none"
        yield Finding(
            f"{data_set.path}: {len(lacking)} of {len(wanted)} images have no label map, such as "
            f"{listed(lacking)}; there are {there}; training ends where it meets one",
            "names of images and maps must be equal but for img_suffix and seg_map_suffix; a file "
            "of names in ann_file leaves images out",
        )
    maps = names_in(data_set.folder("seg_map_path"), data_set.default("seg_map_suffix"))
    if not osp.isfile(data_set.file) and (left := sorted({*maps} - {*data_set.sample_names})):
        text = f"{data_set.path}: {len(left)} label maps have no image, such as {listed(left)}"
        yield Finding(f"{text}; nothing is learnt from them", "add the images", is_wrong=False)


def no_image_is_trained_and_evaluated(data: Data) -> Iterator[Finding]:
    """No image of the training, nor a copy of the same name, is used to judge it."""
    if data.cfg.get("evaluates_training_images"):
        return
    trained = defaultdict(list)
    for data_set in data.of("train"):
        for file in filter(osp.isfile, data_set.image_files):
            trained[_name_and_size(file)].append(file)
    for data_set in data.of("val", "test"):
        files = list(filter(osp.isfile, data_set.image_files))
        alike = (trained.get(_name_and_size(file), []) for file in files)
        pairs = zip(files, alike, strict=True)
        shared = [file for file, others in pairs if any(filecmp.cmp(file, o) for o in others)]
        if shared:
            yield Finding(
                f"{data_set.path}: {len(shared)} of {len(files)} images are trained on too, such "
                f"as {listed(shared)}; the metrics are better than the model is",
                "take them out of one of the two, or say evaluates_training_images = True in the "
                "config if that is meant",
                is_wrong=False,
            )


def _name_and_size(file: str) -> tuple[str, int]:
    return osp.basename(file), osp.getsize(file)
