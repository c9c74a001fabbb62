"""Reading what annotation tools export in COCO's form, mended where that is safe.

Seen in exports: ids as texts or floats (VIA, converters), folders and backslashes in file names, or
names with the number of an upload before them (Label Studio, CVAT), a category that is only the
parent of the others (Roboflow) or the background (labelme), several categories of one name, objects
without ``area`` or ``iscrowd``, polygons that are not in a list, images without a size or with that
of the other orientation.
"""

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from xcit_dense.data.checking import show
from xcit_dense.data.image_files import find_images, mend_sizes
from xcit_dense.errors import UserError, counted, in_one_line
from xcit_dense.mm.annotations import read_json
from xcit_dense.mm.coco_checks import check_coco


@dataclass
class CocoExport:
    """An annotation file that can be trained on, and where its images are.

    Attributes:
        path: the file.
        images: the folder that its file names are relative to, absolute.
        content: what is in it, mended.
        mended: what is not as in the file, a line each; none: the file can be used as it is.
        has_masks: whether every object has a mask.
    """

    path: Path
    images: Path
    content: dict[str, Any]
    mended: list[str] = field(default_factory=list)
    has_masks: bool = False

    def numbers(self) -> str:
        """How much is in it, in words."""
        images, objects = len(self.content["images"]), len(self.content["annotations"])
        return f"{counted(images, 'image')}, {counted(objects, 'object')}"

    def numbers_of_objects(self) -> dict[str, int]:
        """How many objects each category has, by its name, in the order of the file."""
        counts = Counter(record["category_id"] for record in self.content["annotations"])
        return {each["name"]: counts[each["id"]] for each in self.content["categories"]}


def read_export(path: Path, images: Path, with_masks: bool = True) -> CocoExport:
    """Read an annotation file and mend what can be mended; the file itself stays as it is.

    Args:
        path: a file in COCO's format (https://cocodataset.org/#format-data), or nearly.
        images: the folder of its images, which may lie in folders below.
        with_masks: whether masks are wanted; else they are not looked at.

    Raises:
        UserError: something in it cannot be used, or an image is missing or has another size; it
            is the last of several kinds of faults, and the others are printed.
    """
    if not images.is_dir():
        raise UserError(f"--images {images}: there is no such folder")
    content = read_json(path)
    export = CocoExport(path, images.resolve(), content)
    try:
        lists = [content[name] for name in ("images", "annotations", "categories")]
        if not all(isinstance(record, dict) for records in lists for record in records):
            raise TypeError("its lists must hold objects of JSON")
    except (KeyError, TypeError) as error:
        reason = in_one_line(error)
        raise UserError(f"{path}: is no annotation file in COCO's format ({reason})") from error
    try:
        export.mended += _mend_ids(content) + _merge_categories(content)
        export.mended += _mend_polygons(content["annotations"])
        export.mended += find_images(content["images"], export.images)
        export.mended += mend_sizes(content["images"], export.images)
        masks = [record.get("segmentation") for record in content["annotations"]]
        export.has_masks = with_masks and bool(masks) and all(masks)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error
    found = check_coco(content, export.has_masks)
    show([replace(each, text=f"{path}: {each.text}") for each in found if each.is_wrong])
    return export


def _mend_ids(content: dict[str, Any]) -> list[str]:
    """Make all ids whole numbers: those that they are written as, or else counted from 1."""
    mended = []
    for name, key in (("images", "image_id"), ("categories", "category_id")):
        texts = [_text_of(record.get("id")) for record in content[name]]
        are_numbers = all(re.fullmatch(r"-?\d{1,18}", text) for text in texts)
        new = {text: int(text) if are_numbers else i for i, text in enumerate(texts, start=1)}
        if len(new) < len(texts):
            twice = Counter(texts).most_common(1)[0][0]
            raise UserError(f"{name}: several have the id {twice}: mend or remove them")
        places = [(record, "id") for record in content[name]]
        places += [(record, key) for record in content["annotations"] if key in record]
        is_changed = False
        for record, place in places:
            given = record.get(place)  # if it is the id of none, check_coco says so
            record[place] = new.get(_text_of(given), given)
            is_changed |= type(given) is not int or given != record[place]
        if is_changed:
            mended.append(f"ids of {name} as whole numbers")
    objects = content["annotations"]
    if any(type(record.get("id")) is not int for record in objects):
        mended.append("objects numbered from 1")
        for number, record in enumerate(objects, start=1):
            record["id"] = number
    return mended


def _text_of(identity: Any) -> str:
    """One text for an id as a number, a float or a text; ``1`` for 1, 1.0 and "1"."""
    if isinstance(identity, float) and identity.is_integer():
        identity = int(identity)
    return str(identity).strip()


def _merge_categories(content: dict[str, Any]) -> list[str]:
    """Make one category of those of one name, the first."""
    first: dict[str, int] = {}
    merged = {}
    for each in content["categories"]:
        name = str(each.get("name"))
        if first.setdefault(name, each["id"]) != each["id"]:
            merged[str(each["id"])] = name
    content["categories"] = [
        each for each in content["categories"] if str(each["id"]) not in merged
    ]
    for record in content["annotations"]:
        if (identity := str(record.get("category_id"))) in merged:
            record["category_id"] = first[merged[identity]]
    names = dict.fromkeys(merged.values())
    return [f"several categories are called {name!r}: they are one" for name in names]


def _mend_polygons(objects: list[dict]) -> list[str]:
    """Put single polygons into lists."""
    bare = 0
    for record in objects:
        mask = record.get("segmentation")
        if isinstance(mask, list) and mask and not isinstance(mask[0], list | dict):
            record["segmentation"] = [mask]
            bare += 1
    return [f"the polygon of {counted(bare, 'object')}, in a list"] if bare else []
