"""The image files of an annotation file: found by the names that tools write, and their sizes."""

import os
import re
import unicodedata
from collections import defaultdict
from pathlib import Path
from urllib.parse import unquote

from PIL import ExifTags, Image

from xcit_dense.data.image_checks import look_at_all
from xcit_dense.errors import UserError, counted, in_one_line, listed

_UPLOAD = re.compile(r"^[0-9a-f]{8}-")  # of Label Studio, before the name of an uploaded file


def find_images(images: list[dict], folder: Path) -> list[str]:
    """Find the file of each image, and give it as ``file_name``, in place.

    By its name; else by that with other letters for folders, composed letters, blanks or capitals;
    else by its base name, without Label Studio's mark of an upload, where only one file has that.

    Args:
        images: records of COCO's format.
        folder: where the files are, or in folders below.

    Returns:
        What has changed, a line or none.

    Raises:
        UserError: an image is not there, or may be several.
    """
    files = {
        os.path.relpath(os.path.join(inner, file), folder)
        for inner, _, names in os.walk(folder, followlinks=True)
        for file in names
    }
    by_name = defaultdict(list)
    for file in sorted(files):
        by_name[_same(file)].append(file)
        if os.sep in file:
            by_name[_same(file).rpartition("/")[2]].append(file)
    missing, renamed = [], []
    for record in images:
        name = record.get("file_name")
        if not isinstance(name, str) or not name:
            raise UserError(f"images: file_name {name!r:.40} must be the name of a file")
        if name in files:
            continue
        base = _same(name).rpartition("?d=")[2].rpartition("/")[2]
        names = (_same(name), base, _same(unquote(base)), _UPLOAD.sub("", base))
        found = next((by_name[each] for each in names if each in by_name), [])
        if len(found) > 1:
            raise UserError(
                f"images: {name!r} is not in {folder}, and has the base name of "
                f"{' and '.join(found[:2])}: give --images the folder that file_name is relative to"
            )
        if found:
            renamed.append(f"{name} is {found[0]}")
            record["file_name"] = found[0]
        else:
            missing.append(name)
    if missing:
        raise UserError(
            f"{len(missing)} of {len(images)} images are not in {folder}: {listed(missing)}: give "
            "--images the folder where they are, or remove them from the file"
        )
    return [f"{counted(len(renamed), 'file name')}: {renamed[0]}"] if renamed else []


def _same(name: str) -> str:
    """One text for the ways in which a path may be written: backslashes, composed letters, case."""
    path = os.path.normpath(name.replace("\\", "/")).casefold()
    return unicodedata.normalize("NFC", path)


def mend_sizes(images: list[dict], folder: Path) -> list[str]:
    """Give images the sizes of their files as they are shown, turned as EXIF says.

    mmcv turns images when it loads them, and annotation tools show them turned; exporters may write
    the size of the file as it is stored, or none. ``width`` and ``height`` change in place.

    Arguments and what is returned are as for :func:`find_images`.

    Raises:
        UserError: an image cannot be read, or has another size.
    """
    mended, wrong = [], []
    sizes = look_at_all(size_as_shown, [folder / each["file_name"] for each in images], "images")
    for record, shown in zip(images, sizes, strict=True):
        name = record["file_name"]
        annotated = tuple(int(float(record.get(side) or 0)) for side in ("width", "height"))
        if not all(annotated) or annotated == shown[::-1] != shown:
            mended.append(name)
        elif annotated != shown:
            wrong.append(f"{name} has {shown[0]} x {shown[1]}, not {annotated[0]} x {annotated[1]}")
        record["width"], record["height"] = shown
    if wrong:
        raise UserError(
            f"images: {len(wrong)} have another size, in pixels, than is annotated, so that their "
            f"objects lie elsewhere: {listed(wrong)}: mend width and height if the objects are "
            "drawn on the files that are there"
        )
    return mended and [
        f"width and height of {counted(len(mended), 'image')}, {mended[0]} the first, as "
        "shown; there were none, or those of the other orientation: see in `xcit-dense browse` "
        "that their objects lie right"
    ]


def size_as_shown(path: Path) -> tuple[int, int]:
    """Width and height of an image as EXIF turns it; only the head of the file is read.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with Image.open(path) as image:
            turn = image.getexif().get(ExifTags.Base.Orientation, 1)
            is_turned = turn >= 5 and image.format != "TIFF"  # whose size Pillow gives as turned
            return image.size[::-1] if is_turned else image.size
    except Exception as error:  # what a decoder raises for damaged bytes is anyone's guess
        raise UserError(f"{path}: cannot be read ({in_one_line(error)})") from error
