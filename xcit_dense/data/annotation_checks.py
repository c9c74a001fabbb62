"""Checks of a data set with its files: boxes, filters, images and label maps that are there.

What a single record of a file in COCO's format may hold is in ``mm/coco_checks.py``.
"""

import filecmp
import os.path as osp
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from xcit_dense.data.data_sets import Data, DataSet, names_in
from xcit_dense.errors import Finding
from xcit_dense.mm.coco_checks import listed
from xcit_dense.mm.config import type_name

_MANY = 0.01
"""The share of objects from which on it is told that a filter takes them."""
_MANY_IMAGES = 0.2


def boxes_are_of_coco(data_set: DataSet) -> Iterator[Finding]:
    """Boxes are [left, top, width, height] in pixels of their image."""
    objects, file = data_set.objects, data_set.file
    if not len(objects.boxes):
        return
    corner, extent = objects.boxes[:, :2], objects.boxes[:, 2:]
    leaves = (corner + extent > objects.sizes[objects.image] + 1).any(1)
    if (objects.boxes <= 1).all():
        yield Finding(
            f"{file}: all boxes lie between 0 and 1, and pixels are wanted: all objects would be "
            "left out",
            "multiply them by width and height of their images",
        )
    elif leaves.mean() > 0.5 and (extent >= corner).all(1).mean() > 0.95:
        yield Finding(
            f"{file}: {leaves.sum()} of {len(leaves)} boxes leave their image, such as "
            f"{_places(data_set, leaves)}; they look like corners [left, top, right, bottom], and "
            "objects would be learnt too large and at wrong places",
            "write bbox as [left, top, width, height]",
        )
    elif leaves.mean() > 0.5:
        yield Finding(
            f"{file}: {leaves.sum()} of {len(leaves)} boxes leave their image, such as "
            f"{_places(data_set, leaves)}: they were drawn on images of another size, or width and "
            "height are exchanged",
            "write the sizes of the images on which they were drawn, and use these images",
        )
    elif not objects.has_extent.any():
        text = f"{file}: all boxes are smaller than a pixel, or outside: nothing would be learnt"
        yield Finding(text, "write bbox as [left, top, width, height], in pixels")


def _places(data_set: DataSet, which: NDArray[np.bool_]) -> str:
    content = data_set.content
    names = []
    for index in np.flatnonzero(which)[:3]:
        record = content["annotations"][index]
        name = content["images"][data_set.objects.image[index]]["file_name"]
        names.append(f"annotations[{index}] (id {record['id']}, {name}) {record['bbox']}")
    return ", ".join(names)


def something_is_learnt(data_set: DataSet) -> Iterator[Finding]:
    """Not all objects of the classes are crowds."""
    objects = data_set.objects
    of_class = objects.has_extent & (objects.label >= 0)
    if data_set.split == "train" and of_class.any() and not objects.is_used.any():
        text = f"{data_set.file}: all {of_class.sum()} objects are crowds: nothing would be learnt"
        yield Finding(text, "write iscrowd=0 for single objects")


def there_are_objects(data_set: DataSet) -> Iterator[Finding]:
    """A file for training lists objects; some of a semi-supervised training do not."""
    if data_set.split == "train" and not len(data_set.objects.boxes):
        text = f"{data_set.file}: lists {len(data_set.content['images'])} images and no objects"
        is_whole = data_set.path == "train_dataloader.dataset"
        yield Finding(text, "is it the file of a test set? Name one with annotations", is_whole)


def nothing_is_there_twice(data_set: DataSet) -> Iterator[Finding]:
    """No image is listed twice, and no object drawn twice."""
    content, objects = data_set.content, data_set.objects
    counts = Counter(image["file_name"] for image in content["images"])
    if twice := [name for name, count in counts.items() if count > 1]:
        yield Finding(
            f"{data_set.file}: {len(twice)} images are listed more than once, such as "
            f"{listed(twice)}; what one entry has the other teaches as background",
            "join their entries, with all objects",
            is_wrong=False,
        )
    rows = np.column_stack([objects.image, objects.label, objects.boxes])
    _, first, number = np.unique(rows, axis=0, return_index=True, return_counts=True)
    repeated = np.isin(np.arange(len(rows)), first[number > 1])
    if repeated.any():
        yield Finding(
            f"{data_set.file}: {repeated.sum()} objects are there more than once, with equal class "
            f"and box, such as {_places(data_set, repeated)}; they count twice, and half of them "
            "can not be found",
            "leave one of each",
            is_wrong=False,
        )


def images_are_there(data_set: DataSet) -> Iterator[Finding]:
    """Every image that an annotation file lists is in its folder."""
    lacking = [file for file in data_set.image_files if not osp.isfile(file)]
    if not lacking:
        return
    folder, name = data_set.folder("img"), osp.relpath(lacking[0], data_set.folder("img"))
    root = data_set.node.get("data_root") or ""
    remedy = "correct data_prefix=dict(img=...), or file_name in the annotations"
    if osp.isfile(osp.join(root, name)):
        remedy = "file_name has the folder already: data_prefix=dict(img='')"
    elif osp.isfile(osp.join(folder, osp.basename(name.replace("\\", "/")))):
        remedy = "they lie there without the folders that file_name has: leave these out"
    elif same := [n for n in names_in(folder, "") if osp.splitext(n)[0] == osp.splitext(name)[0]]:
        remedy = f"{same[0]!r} is there: write file_name with the suffix of the files"
    yield Finding(
        f"{data_set.file}: {len(lacking)} of its {len(data_set.image_files)} images are missing, "
        f"such as {listed(lacking)}; training ends where it meets one",
        remedy,
    )


def kept_images(data_set: DataSet) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which images ``min_size`` keeps, and which ``filter_empty_gt`` (mmdet's ``filter_data``)."""
    objects, filters = data_set.objects, data_set.filters
    is_large = objects.sizes.min(1) >= filters.get("min_size", 0)
    has_objects = np.zeros(len(is_large), bool)
    has_objects[objects.image[objects.label >= 0]] = True
    return is_large, has_objects | (not filters.get("filter_empty_gt"))


def filters_leave_objects(data_set: DataSet) -> Iterator[Finding]:
    """Filters of data set and pipeline take few objects and images."""
    objects, path = data_set.objects, data_set.path
    if data_set.split != "train" or not objects.is_used.any():
        return
    is_large, has_objects = kept_images(data_set)
    lost = objects.is_used & ~is_large[objects.image]
    what = f"with {(~is_large).sum()} of {len(is_large)} images"
    yield from _told(data_set, f"{path}.filter_cfg.min_size", lost, what, "lower it")
    if (~has_objects).mean() > _MANY_IMAGES:
        yield Finding(
            f"{path}.filter_cfg.filter_empty_gt leaves out {(~has_objects).sum()} of "
            f"{len(has_objects)} images, those without an object of a class",
            "filter_empty_gt=False, if they are to teach what is no object",
            is_wrong=False,
        )
    scale = np.ones_like(objects.boxes[:, 2:])
    for step in data_set.steps:
        if type_name(step) in ("Resize", "RandomChoiceResize", "RandomResize"):
            scale = _scale_of(step, objects.sizes)[objects.image]
        elif type_name(step) == "FilterAnnotations" and step.get("by_box", True):
            least = step.get("min_gt_bbox_wh", (1, 1))
            lost = objects.is_used & (objects.boxes[:, 2:] * scale < least).any(1)
            what = "after resizing to the largest scale"
            yield from _told(data_set, f"{path}: FilterAnnotations.min_gt_bbox_wh", lost, what)


def _told(
    data_set: DataSet, which: str, lost: NDArray[np.bool_], what: str, remedy: str = "lower it"
) -> Iterator[Finding]:
    used = data_set.objects.is_used.sum()
    if lost.sum() > _MANY * used:
        text = f"{which} leaves out {lost.sum()} of {used} objects, {what}"
        yield Finding(f"{text}, such as {_places(data_set, lost)}", remedy, lost.sum() == used)


def _scale_of(step: dict, sizes: NDArray[np.int_]) -> NDArray[np.float64]:
    """Factors of width and height of each image, at the largest scale of a step, (I, 2)."""
    scales = step.get("scale") or step.get("scales")
    if scales is None:
        return np.full(sizes.shape, step.get("scale_factor") or 1.0)
    several = scales if isinstance(scales[0], (list, tuple)) else [scales]
    factors = np.array(max(several, key=min)) / sizes
    if step.get("keep_ratio", type_name(step) == "RandomChoiceResize"):
        long, short = max(max(several, key=min)), min(max(several, key=min))
        fits = np.minimum(long / sizes.max(1), short / sizes.min(1))
        return np.column_stack([fits, fits])
    return factors


def label_maps_are_there(data_set: DataSet) -> Iterator[Finding]:
    """A data set of mmseg has images, each with a label map, and no map is left over."""
    folders = [data_set.folder(key) for key in ("img_path", "seg_map_path")]
    suffixes = [data_set.default(key) for key in ("img_suffix", "seg_map_suffix")]
    for folder, suffix, key in zip(
        folders, suffixes, ("img_suffix", "seg_map_suffix"), strict=True
    ):
        if not names_in(folder, suffix) and osp.isdir(folder):
            others = Counter(osp.splitext(name)[1] for name in names_in(folder, ""))
            found = ", ".join(f"{count} with {other!r}" for other, count in others.most_common(3))
            text = (
                f"{data_set.path}: no file in {folder} ends with {key}={suffix!r}; it has {found}"
            )
            yield Finding(
                f"{text}: there is nothing to learn from",
                f"{key}={others.most_common(1)[0][0]!r}" if others else "correct data_prefix",
            )
            return
    wanted = data_set.label_map_files
    if lacking := [file for file in wanted if not osp.isfile(file)]:
        yield Finding(
            f"{data_set.path}: {len(lacking)} of {len(wanted)} images have no label map, such as "
            f"{listed(lacking)}; training ends where it meets one",
            "names of images and maps must be equal but for img_suffix and seg_map_suffix; a file "
            "of names in ann_file leaves images out",
        )
    maps = [osp.join(folders[1], name + suffixes[1]) for name in names_in(folders[1], suffixes[1])]
    if not osp.isfile(data_set.file) and (left := sorted(set(maps) - set(wanted))):
        text = f"{data_set.path}: {len(left)} label maps have no image, such as {listed(left)}"
        yield Finding(f"{text}; nothing is learnt from them", "add the images", is_wrong=False)


def no_image_is_trained_and_evaluated(data: Data) -> Iterator[Finding]:
    """No image of the training is used to judge it: the same file, or a copy by the same name."""
    trained = {osp.abspath(file) for each in data.of("train") for file in each.image_files}
    by_name = defaultdict(list)
    for file in trained:
        by_name[osp.basename(file)].append(file)
    for data_set in data.of("val") + data.of("test"):
        files = list(map(osp.abspath, data_set.image_files))
        shared = [file for file in files if file in trained]
        copies = (f for f in files for other in by_name[osp.basename(f)] if _is_copy(f, other))
        number = str(len(shared))
        if not shared:
            shared = list(islice(copies, 3))
            number = "3 or more" if len(shared) == 3 else str(len(shared))
        if shared:
            yield Finding(
                f"{data_set.path}: {number} of {len(files)} images are trained on too, such as "
                f"{listed(shared)}; the metrics are better than the model is",
                "take them out of one of the two",
                is_wrong=False,
            )


def _is_copy(one: str, other: str) -> bool:
    exist = osp.isfile(one) and osp.isfile(other)
    return exist and filecmp.cmp(one, other, shallow=False)
