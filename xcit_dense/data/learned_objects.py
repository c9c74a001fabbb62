"""What of annotation files is learned and evaluated: their classes and objects."""

import numpy as np

from xcit_dense.data.coco_export import CocoExport
from xcit_dense.errors import UserError

_BACKGROUNDS = {"_background_", "__background__"}  # of labelme
_LEAST_SIDE = 32  # of images that mmdet trains on: filter_cfg.min_size in the base configs


def part_of(export: CocoExport, numbers: list[int]) -> CocoExport:
    """Some of the images of a file, by their numbers, and their objects."""
    images = [export.content["images"][number] for number in numbers]
    ids = {record["id"] for record in images}
    objects = [record for record in export.content["annotations"] if record["image_id"] in ids]
    content = {**export.content, "images": images, "annotations": objects}
    return CocoExport(export.path, export.images, content, ["divided"])


def classes_of(train: CocoExport, val: CocoExport, drop_empty: bool, notes: list[str]) -> list[str]:
    """The classes: categories of the training file that are more than a parent or the background.

    Categories without objects are classes too, unless ``drop_empty``. ``val`` gets those that its
    exporter left out. ``notes`` gets the classes and what a user should know of them.

    Raises:
        UserError: there is nothing to train on, or classes for validation have other names.
    """
    in_train, in_val = train.numbers_of_objects(), val.numbers_of_objects()
    categories = train.content["categories"]
    superfluous = []
    for each in categories:
        name, others = each["name"], (other for other in categories if other is not each)
        is_parent = name in {other.get("supercategory") for other in others}
        if (is_parent or name in _BACKGROUNDS) and not in_train[name] + in_val.get(name, 0):
            superfluous.append(name)
    empty = [name for name, count in in_train.items() if not count and name not in superfluous]
    left_out = superfluous + (empty if drop_empty else [])
    classes = [name for name in in_train if name not in left_out]
    if not sum(in_train[name] for name in classes):
        raise UserError(f"{train.path}: has no objects to train on")
    if lacking := [name for name in classes if name not in in_val]:
        if others := [name for name, count in in_val.items() if count and name not in in_train]:
            raise UserError(
                f"{val.path}: has no category {', '.join(lacking)}, and objects of "
                f"{', '.join(others)}, which {train.path} does not have: name them alike in both"
            )
        last = max((each["id"] for each in val.content["categories"]), default=0)
        added = [{"id": last + i, "name": name} for i, name in enumerate(lacking, start=1)]
        val.content["categories"] += added
        val.mended.append("categories")
        in_val = val.numbers_of_objects()
        notes.append(f"mended: {val.path}: categories added: {', '.join(lacking)}")
    counts = ", ".join(f"{name} ({in_train[name]}, {in_val[name]})" for name in classes)
    notes.append(f"classes (objects to train and to validate on): {counts}")
    if superfluous:
        notes.append(f"no class: {', '.join(superfluous)}, the parent of others or the background")
    if empty:
        done = "left out" if drop_empty else "classes all the same, --drop-empty leaves them out"
        notes.append(f"mind: without objects to train on: {', '.join(empty)}: {done}")
    if unseen := [name for name in classes if in_train[name] and not in_val[name]]:
        notes.append(f"mind: no object to validate on: {', '.join(unseen)}: not in the metric")
    return classes


def objects_of(export: CocoExport, classes: list[str]) -> tuple[np.ndarray, np.ndarray, int]:
    """The objects of some classes that are learned, as mmdet chooses them.

    Returns:
        (N, 2), width and height of the image of each of N objects; (N, 2), width and height of the
        objects, in pixels; and the number of images that have some.

    Raises:
        UserError: there are none.
    """
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
