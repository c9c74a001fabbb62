"""Reading what annotation tools export in COCO's form, mended where that is safe.

Seen in exports: ids as texts or floats (VIA, converters), folders and backslashes in file names, or
names with the number of an upload before them (Label Studio, CVAT), a category that is only the
parent of the others (Roboflow) or the background (labelme), objects without boxes, ``area`` or
``iscrowd``, polygons that are not in a list, images without a size or with that of the other
orientation.
"""

import json
import os
import re
import unicodedata
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from PIL import Image

from xcit_dense.errors import UserError, in_one_line
from xcit_dense.mm.coco_checks import check_coco

_ORIENTATION = 0x0112  # of EXIF; from 5 on the image is stored lying on its side
_BACKGROUNDS = {"_background_", "__background__"}
_UPLOAD = re.compile(r"^[0-9a-f]{8}-")  # of Label Studio, before the name of an uploaded file


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
        _find_images(export)
        _mend_sizes(export)
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


def _find_images(export: CocoExport) -> None:
    """Find the file of each image: by its name, or where only one has its base name."""
    files = {
        os.path.relpath(os.path.join(folder, file), export.images)
        for folder, _, names in os.walk(export.images, followlinks=True)
        for file in names
    }
    by_path = {_same(file): file for file in sorted(files)}
    by_name = defaultdict(list)
    for place, file in by_path.items():
        by_name[place.rpartition("/")[2]].append(file)
    missing, renamed = [], []
    for record in export.content["images"]:
        name = record.get("file_name")
        if not isinstance(name, str) or not name:
            raise UserError(f"images: file_name {name!r:.40} must be the name of a file")
        if name in files:
            continue
        place = by_path.get(_same(name))
        base = _same(name).rpartition("?d=")[2].rpartition("/")[2]
        for candidate in [] if place else (base, _same(unquote(base)), _UPLOAD.sub("", base)):
            found = by_name.get(candidate, [])
            if len(found) > 1:
                raise UserError(
                    f"images: {name!r} is not in {export.images}, and has the base name of "
                    f"{' and '.join(found[:2])}: give --images the folder that file_name is "
                    "relative to"
                )
            place = place or next(iter(found), None)
        if place is None:
            missing.append(name)
        else:
            record["file_name"] = place
            renamed.append(f"{name} is {place}")
    if missing:
        raise UserError(
            f"{len(missing)} of {len(export.content['images'])} images are not in {export.images}: "
            f"{', '.join(missing[:3])}: give --images the folder where they are, or remove them "
            "from the file"
        )
    if renamed:
        export.mended.append(f"{len(renamed)} file names: {renamed[0]}")


def _same(name: str) -> str:
    """One text for the ways in which a path may be written: backslashes, composed letters, case."""
    path = os.path.normpath(name.replace("\\", "/")).casefold()
    return unicodedata.normalize("NFC", path)


def _mend_sizes(export: CocoExport) -> None:
    """Compare sizes with those of the files as they are shown, turned as EXIF says.

    mmcv turns images when it loads them, and annotation tools show them turned; exporters may write
    the size of the file as it is stored.
    """
    ends: dict[int, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for record in export.content["annotations"]:
        box, reach = record.get("bbox"), ends[record["image_id"]]
        if isinstance(box, list) and len(box) == 4 and all(type(x) in (int, float) for x in box):
            reach[:] = max(reach[0], box[0] + box[2]), max(reach[1], box[1] + box[3])
    turned, filled, wrong = [], [], []
    for record in export.content["images"]:
        name = record["file_name"]
        shown, is_turned = _size_shown(export.images / name)
        annotated = tuple(_number(record.get(side)) for side in ("width", "height"))
        fits, fits_stored = (
            all(end <= side + 1 for end, side in zip(ends[record["id"]], size, strict=True))
            for size in (shown, shown[::-1])
        )
        if is_turned and fits_stored and not fits:
            raise UserError(
                f"images: objects of {name} are drawn on the image as it is stored, not as its "
                "EXIF orientation shows it, and as training sees it: remove the orientation from "
                "such files (exiftool -Orientation= FILES)"
            )
        if not all(annotated) or (record["width"], record["height"]) != annotated:
            filled.append(name)
        elif annotated == shown[::-1] != shown and fits:
            turned.append(name)
        elif annotated != shown:
            wrong.append(f"{name} has {shown[0]} x {shown[1]}, not {annotated[0]} x {annotated[1]}")
        record["width"], record["height"] = shown
    if wrong:
        raise UserError(
            f"images: {len(wrong)} have another size, in pixels, than is annotated, so that their "
            f"objects lie elsewhere: {'; '.join(wrong[:3])}: mend width and height if the objects "
            "are drawn on the files that are there"
        )
    if turned:
        export.mended.append(
            f"{len(turned)} images have width and height as they are shown, turned by EXIF or "
            f"written the other way round, {turned[0]} the first: see in `xcit-dense browse` that "
            "their objects lie right"
        )
    if filled:
        export.mended.append(f"{len(filled)} images have their size from the file: {filled[0]}")


def _number(value: Any) -> int:
    """A size in pixels, 0 where there is none."""
    try:
        return int(float(value or 0))
    except (TypeError, ValueError, OverflowError):
        return 0


def _size_shown(path: Path) -> tuple[tuple[int, int], bool]:
    """Width and height of an image as it is shown, and whether it is stored on its side."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # large is welcome
            with Image.open(path) as image:  # reads the header only
                is_turned = image.getexif().get(_ORIENTATION, 1) >= 5
                return (image.size[::-1] if is_turned else image.size), is_turned
    except Exception as error:  # what a decoder raises for damaged bytes is anyone's guess
        raise UserError(f"images: {path} cannot be read ({in_one_line(error)})") from error
