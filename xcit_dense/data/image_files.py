"""The image files of an annotation file: found by the names that tools write, and their sizes."""

import os
import re
import unicodedata
import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from PIL import Image

from xcit_dense.errors import UserError, in_one_line

_ORIENTATION = 0x0112  # of EXIF; from 5 on the image is stored lying on its side
_UPLOAD = re.compile(r"^[0-9a-f]{8}-")  # of Label Studio, before the name of an uploaded file


def find_images(content: dict[str, Any], folder: Path) -> list[str]:
    """Find the file of each image, and give it as ``file_name``, in place.

    By its name; else by that with other letters for folders, composed letters, blanks or capitals;
    else by its base name, without Label Studio's mark of an upload, where only one file has that.

    Args:
        content: of a file in COCO's format.
        folder: where the images are, or in folders below.

    Returns:
        What has changed, a line or none.

    Raises:
        UserError: an image is not there, or may be several, or two are the same.
    """
    files = {
        os.path.relpath(os.path.join(inner, file), folder)
        for inner, _, names in os.walk(folder, followlinks=True)
        for file in names
    }
    by_path = {_same(file): file for file in sorted(files)}
    by_name = defaultdict(list)
    for place, file in by_path.items():
        by_name[place.rpartition("/")[2]].append(file)
    missing, renamed = [], []
    given = [record.get("file_name") for record in content["images"]]
    taken = {name: name for name in given if isinstance(name, str) and name in files}
    for record in content["images"]:
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
                    f"images: {name!r} is not in {folder}, and has the base name of "
                    f"{' and '.join(found[:2])}: give --images the folder that file_name is "
                    "relative to"
                )
            place = place or next(iter(found), None)
        if place is None:
            missing.append(name)
        elif place in taken:
            raise UserError(
                f"images: {name!r} and {taken[place]!r} are both found as {place}: give --images "
                "the folder that file_name is relative to"
            )
        else:
            record["file_name"], taken[place] = place, name
            renamed.append(f"{name} is {place}")
    if missing:
        raise UserError(
            f"{len(missing)} of {len(content['images'])} images are not in {folder}: "
            f"{', '.join(missing[:3])}: give --images the folder where they are, or remove them "
            "from the file"
        )
    return [f"{len(renamed)} file names: {renamed[0]}"] if renamed else []


def _same(name: str) -> str:
    """One text for the ways in which a path may be written: backslashes, composed letters, case."""
    path = os.path.normpath(name.replace("\\", "/")).casefold()
    return unicodedata.normalize("NFC", path)


def mend_sizes(content: dict[str, Any], folder: Path) -> list[str]:
    """Compare sizes with those of the files as they are shown, turned as EXIF says.

    mmcv turns images when it loads them, and annotation tools show them turned; exporters may write
    the size of the file as it is stored, or none. ``width`` and ``height`` change in place.

    Args:
        content: of a file in COCO's format.
        folder: that its file names are relative to.

    Returns:
        What has changed, a line each.

    Raises:
        UserError: an image cannot be read, has another size, or objects that are drawn on it as it
            is stored.
    """
    ends: dict[int, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for record in content["annotations"]:
        box, reach = record.get("bbox"), ends[record["image_id"]]
        if isinstance(box, list) and len(box) == 4 and all(type(x) in (int, float) for x in box):
            reach[:] = max(reach[0], box[0] + box[2]), max(reach[1], box[1] + box[3])
    turned, filled, wrong = [], [], []
    for record in content["images"]:
        name = record["file_name"]
        shown, is_turned = _size_shown(folder / name)
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
        if annotated == shown[::-1] != shown and fits:
            turned.append(name)
        elif all(annotated) and annotated != shown:
            wrong.append(f"{name} has {shown[0]} x {shown[1]}, not {annotated[0]} x {annotated[1]}")
        elif (record.get("width"), record.get("height")) != shown:
            filled.append(name)
        record["width"], record["height"] = shown
    if wrong:
        raise UserError(
            f"images: {len(wrong)} have another size, in pixels, than is annotated, so that their "
            f"objects lie elsewhere: {'; '.join(wrong[:3])}: mend width and height if the objects "
            "are drawn on the files that are there"
        )
    lines = []
    if turned:
        lines.append(
            f"{len(turned)} images have width and height as they are shown, turned by EXIF or "
            f"written the other way round, {turned[0]} the first: see in `xcit-dense browse` that "
            "their objects lie right"
        )
    if filled:
        lines.append(f"{len(filled)} images have their size from the file: {filled[0]}")
    return lines


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
