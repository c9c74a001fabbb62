"""Reading what annotation tools export in COCO's form, mended where that is safe.

Seen in exports: ids as texts or floats (VIA, converters), folders and backslashes in file names, or
names with the number of an upload before them (Label Studio, CVAT), a category that is only the
parent of the others (Roboflow) or the background (labelme), objects without boxes, ``area`` or
``iscrowd``, polygons that are not in a list, images without a size or with that of the other
orientation.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xcit_dense.data.image_files import find_images, mend_sizes
from xcit_dense.errors import UserError
from xcit_dense.mm.coco_checks import check_coco

_BACKGROUNDS = {"_background_", "__background__"}


@dataclass
class CocoExport:
    """An annotation file that can be trained on, and where its images are.

    Attributes:
        path: the file.
        images: the folder that its file names are relative to, absolute.
        content: what is in it, mended.
        mended: what is not as in the file, a line each; none: the file can be used as it is.
        notes: what else a user should know of it, a line each.
        has_masks: whether every object has a mask.
    """

    path: Path
    images: Path
    content: dict[str, Any]
    mended: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    has_masks: bool = False

    def numbers(self) -> str:
        """How much is in it, in words."""
        objects = len(self.content["annotations"])
        numbers = (f"{len(self.content[name])} {name}" for name in ("images", "categories"))
        return f"{', '.join(numbers)}, {objects} objects"

    def numbers_of_objects(self) -> dict[str, int]:
        """How many objects each category has, by its name, in the order of the file."""
        counts = Counter(record["category_id"] for record in self.content["annotations"])
        return {each["name"]: counts[each["id"]] for each in self.content["categories"]}


def read_export(path: Path, images: Path, with_masks: bool = True) -> CocoExport:
    """Read an annotation file and mend what can be mended; the file itself stays as it is.

    Args:
        path: a file in COCO's format (https://cocodataset.org/#format-data), or nearly.
        images: the folder of its images, which may lie in folders below.
        with_masks: False where masks are not wanted, so that they are not looked at.

    Raises:
        UserError: something in it cannot be used, or an image is missing or has another size.
    """
    if not images.is_dir():
        raise UserError(f"--images {images}: there is no such folder")
    try:
        text = path.read_bytes()
        content = json.loads(text.decode("utf-8-sig"))
        lists = [content[name] for name in ("images", "annotations", "categories")]
        if not all(isinstance(record, dict) for records in lists for record in records):
            raise TypeError("its lists must hold objects of JSON")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        reason = f"has no {error}" if isinstance(error, KeyError) else error
        raise UserError(f"{path}: is no annotation file in COCO's format ({reason})") from error
    export = CocoExport(path, images.resolve(), content)
    if text.startswith(b"\xef\xbb\xbf"):
        export.mended.append("without the byte order mark at its beginning")
    try:
        _mend_ids(export)
        _mend_objects(export)
        export.mended += find_images(content, export.images)
        export.mended += mend_sizes(content, export.images)
        _check_names(export)
        masked = [bool(record.get("segmentation")) for record in content["annotations"]]
        export.has_masks = with_masks and bool(masked) and all(masked)
        if with_masks and any(masked) and not export.has_masks:
            first = content["annotations"][masked.index(False)]["id"]
            export.notes.append(
                f"{masked.count(False)} of {len(masked)} objects have no mask, the one with id "
                f"{first} is the first: only boxes can be learned"
            )
        export.notes += check_coco(content, export.has_masks)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return export


def is_superfluous(category: dict, categories: Iterable[dict], num_objects: int) -> bool:
    """Whether a category without objects is only the parent of others, or the background."""
    parents = {other.get("supercategory") for other in categories if other is not category}
    return not num_objects and (category["name"] in parents or category["name"] in _BACKGROUNDS)


def _mend_ids(export: CocoExport) -> None:
    """Make all ids whole numbers: those that they are written as, or else counted from 1."""
    content = export.content
    new = {name: _whole_ids(content[name], name) for name in ("images", "categories")}
    changed = {name: ids for name, ids in new.items() if ids is not None}
    for name, key in (("images", "image_id"), ("categories", "category_id")):
        known = {_key(record["id"]) for record in content[name]}
        for record in content["annotations"]:
            value = record.get(key)
            identity = _key(value)
            if identity not in known:
                raise UserError(
                    f"annotations: {key} {value!r:.40} of the object with id "
                    f"{record.get('id')!r:.40} is the id of none of {name}: mend or remove it"
                )
            if name in changed:
                record[key] = changed[name][identity]
            elif type(value) is not int:
                record[key] = int(identity)
                export.mended.append(f"{key} as whole numbers")
        for record in content[name]:
            if name in changed:
                record["id"] = changed[name][_key(record["id"])]
    export.mended = list(dict.fromkeys(export.mended))
    export.mended += [f"ids of {name} as whole numbers" for name in changed]
    records = content["annotations"]
    ids = [record.get("id") for record in records]
    if any(type(identity) is not int or not identity for identity in ids):
        export.mended.append("objects numbered from 1")
        for number, record in enumerate(records, start=1):
            record["id"] = number


def _key(identity: Any) -> str:
    """One text for an id as a number, a float or a text; ``1`` for 1, 1.0 and "1"."""
    if isinstance(identity, float) and identity.is_integer():
        identity = int(identity)
    return str(identity).strip()


def _whole_ids(records: list[dict], name: str) -> dict[str, int] | None:
    """New ids by the keys of the old ones; None where all are whole numbers already."""
    keys = Counter(_key(record.get("id")) for record in records)
    if doubles := [key for key, count in keys.items() if count > 1]:
        raise UserError(
            f"{name}: {keys[doubles[0]]} of them have the id {doubles[0]}: mend or remove them"
        )
    if all(type(record.get("id")) is int and abs(record["id"]) < 2**63 for record in records):
        return None
    if all(re.fullmatch(r"\d{1,18}", key) for key in keys):
        return {key: int(key) for key in keys}
    return {key: number for number, key in enumerate(keys, start=1)}


def _mend_objects(export: CocoExport) -> None:
    """Complete boxes, areas and crowds, and put polygons into lists; count what that changes."""
    counts: Counter[str] = Counter()
    for record in export.content["annotations"]:
        mask = record.get("segmentation")
        if isinstance(mask, list) and mask and not isinstance(mask[0], list | dict):
            record["segmentation"] = mask = [mask]
            counts["a polygon that is not in a list"] += 1
        if not record.get("bbox") and isinstance(mask, list) and mask:
            record["bbox"] = _box_around(mask, record["id"])
            counts["no box: that of its polygons"] += 1
    export.mended += [f"{number} objects have {what}" for what, number in counts.items()]


def _box_around(polygons: list[list[float]], identity: int) -> list[float]:
    try:
        points = [value for polygon in polygons for value in polygon]
        (left, right), (top, bottom) = (
            (min(axis), max(axis)) for axis in (points[::2], points[1::2])
        )
        return [left, top, right - left, bottom - top]
    except (TypeError, ValueError) as error:
        raise UserError(
            f"annotations: the object with id {identity} has no bbox, and polygons that cannot be "
            f"used, {polygons!r:.60}: mend or remove it"
        ) from error


def _check_names(export: CocoExport) -> None:
    names = Counter(category.get("name") for category in export.content["categories"])
    for name, number in names.items():
        if not isinstance(name, str) or not name.strip():
            raise UserError(f"categories: name {name!r:.40} must be a text: give it one")
        if number > 1:
            raise UserError(
                f"categories: {number} have the name {name!r}: rename one, or make them one"
            )
