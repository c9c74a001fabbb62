"""What a file in COCO's format may hold: sizes, boxes, polygons, run lengths and ids."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from xcit_dense.errors import UserError

MAX_PIXELS = 2**31
"""Of an annotated image: pycocotools counts the pixels of a mask in 32 bits."""

_LISTS = ("images", "categories", "annotations")


def check_coco(content: Mapping[str, Any], with_masks: bool = True) -> list[str]:
    """Check the content of an annotation file, and complete what exporters leave out, in place.

    ``iscrowd`` is 0 where it is missing, and ``area`` that of the box where it is missing or 0:
    mmdet leaves such objects out of training. Objects are numbered anew where one has the id 0,
    which COCO's evaluation takes for none, or a text.

    Args:
        content: what is in the file, in COCO's format (https://cocodataset.org/#format-data).
        with_masks: whether every object needs a mask; else ``segmentation`` is not looked at.

    Returns:
        What a user should know of it, a line each.

    Raises:
        UserError: something in it cannot be used; says how much, names the first and what is wrong.
    """
    for name in _LISTS:
        if not isinstance(content.setdefault(name, []), list):
            found = type(content[name]).__name__
            raise UserError(f"{name!r} must be a list, as in COCO's format, and is {found}")
    if not content["images"]:
        raise UserError("lists no images")
    faults: list[str] = []
    images = _check_all(content, "images", _check_image, faults)
    categories = _check_all(content, "categories", _check_category, faults)
    without_area: list[dict] = []
    left_out: list[dict] = []

    def check_object(record: dict) -> None:
        for key, known in (("image_id", images), ("category_id", categories)):
            if not isinstance(record[key], int | str) or record[key] not in known:
                raise ValueError(f"{key} {record[key]!r:.40} is the id of none")
        image = images[record["image_id"]]
        if not _has_extent(record["bbox"], image["height"], image["width"]):
            left_out.append(record)
        _complete(record, without_area)
        if with_masks:
            _check_mask(record.get("segmentation"), image["height"], image["width"])

    _check_all(content, "annotations", check_object, faults)
    if faults:
        raise UserError(
            f"{len(faults)} of its entries cannot be used, {faults[0]}: mend or remove them"
        )
    objects = content["annotations"]
    if any(type(record["id"]) is not int or not record["id"] for record in objects):
        for number, record in enumerate(objects, start=1):
            record["id"] = number
    warnings = {
        "has no area, or 0: that of the box counts": without_area,
        "has a box smaller than a pixel, or outside of its image: mmdet leaves it out": left_out,
    }
    return [f"{len(those)} objects: each {what}" for what, those in warnings.items() if those]


def _check_all(
    content: Mapping[str, Any], name: str, check: Callable[[dict], None], faults: list[str]
) -> dict[Any, dict]:
    """Check the records of a list; returns them by their ids."""
    by_id: dict[Any, dict] = {}
    for number, record in enumerate(content[name]):
        if not isinstance(record, dict):
            faults.append(f"{name}[{number}] is {record!r:.40}, no object of JSON")
            continue
        try:
            identity = record["id"]
            if not isinstance(identity, int | str):
                raise ValueError("the id must be a whole number or a text")
            if isinstance(identity, int) and abs(identity) >= 2**63:
                raise ValueError("the id must fit into 64 bits")
            if identity in by_id:
                raise ValueError("another one has this id")
            check(record)
            by_id[identity] = record
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            of_id = f" (id {record['id']!r:.40})" if "id" in record else ""
            reason = f"has no {error}" if isinstance(error, KeyError) else str(error)
            faults.append(f"{name}[{number}]{of_id}: {reason}")
    return by_id


def _check_image(record: dict) -> None:
    for side in ("width", "height"):
        value = record[side]
        if not isinstance(value, int | float) or value < 1 or value % 1:
            raise ValueError(f"{side} {value!r:.40} must be a whole number of pixels")
        record[side] = int(value)
    if record["width"] * record["height"] > MAX_PIXELS:
        raise ValueError(f"{record['width']} x {record['height']} pixels are more than 2^31")
    if not isinstance(record["file_name"], str):
        raise ValueError(f"file_name {record['file_name']!r:.40} must be a text")


def _check_category(record: dict) -> None:
    if not isinstance(record["name"], str):
        raise ValueError(f"name {record['name']!r:.40} must be a text")


def _has_extent(box: Any, height: int, width: int) -> bool:
    """Whether a box, which must be near its image, has a pixel of it."""
    is_box = isinstance(box, list) and len(box) == 4 and all(type(x) in (int, float) for x in box)
    if not is_box or not all(map(math.isfinite, box)):
        raise ValueError(f"bbox {box!r:.80} must be [left, top, width, height], in pixels")
    left, top, across, down = box
    margin = max(height, width)
    if min(left, top) < -margin or max(left + across, top + down) > 2 * margin:
        raise ValueError(f"bbox {box!r:.80} is far outside of its image, {width} x {height}")
    is_inside = left < width and top < height and left + across > 0 and top + down > 0
    return is_inside and min(across, down) >= 1


def _complete(record: dict, without_area: list[dict]) -> None:
    if record.setdefault("iscrowd", 0) not in (0, 1):
        raise ValueError(f"iscrowd {record['iscrowd']!r:.40} must be 0 or 1")
    if not math.isfinite(record.get("area") or 0):
        raise ValueError(f"area {record['area']} must be a number of pixels")
    if (record.get("area") or 0) <= 0:
        record["area"] = record["bbox"][2] * record["bbox"][3]
        without_area.append(record)


def _check_mask(mask: Any, height: int, width: int) -> None:
    """See that a mask is polygons near the image, or run lengths that fill it."""
    if not mask:
        raise ValueError("has no segmentation, and the config reads masks")
    is_polygons = isinstance(mask, list) and all(isinstance(polygon, list) for polygon in mask)
    if not is_polygons and not isinstance(mask, dict):
        raise ValueError(
            f"segmentation {mask!r:.60} must be a list of polygons, [[x1, y1, x2, y2, ...], ...], "
            "or run lengths"
        )
    if is_polygons:
        # pycocotools walks along every edge, so that what is far away takes time and memory
        margin = max(height, width)
        for polygon in mask:
            if len(polygon) < 6 or len(polygon) % 2 or not all(map(math.isfinite, polygon)):
                raise ValueError(
                    f"a polygon {polygon!r:.60} must be [x1, y1, x2, y2, ...] of three points or "
                    "more"
                )
            if min(polygon) < -margin or max(polygon) > 2 * margin:
                raise ValueError(f"a polygon {polygon!r:.60} is far outside of its image")
        return
    if mask["size"] != [height, width]:
        raise ValueError(
            f"run lengths of size {mask['size']!r:.40} must have the image's, [{height}, {width}]"
        )
    counts = mask["counts"]
    if not isinstance(counts, list | str):
        raise ValueError(f"counts {counts!r:.40} of run lengths must be a list or a text")
    lengths = counts if isinstance(counts, list) else run_lengths(counts)
    if any(type(length) is not int or length < 0 for length in lengths):
        raise ValueError("run lengths must be whole numbers, 0 or more")
    if sum(lengths) != height * width:
        raise ValueError(f"run lengths cover {sum(lengths)} pixels, the image has {height * width}")


def run_lengths(counts: str) -> list[int]:
    """Decode COCO's compressed run lengths.

    A number is in characters of 6 bits, from 48 on: 5 bits of it each, the lowest first, and one
    that tells whether more follow; from the third number on it is the difference to the last but
    one (source: the format of the COCO API, ``maskApi``).

    Raises:
        ValueError: the text is cut short, or has other characters or longer numbers.
    """
    codes = np.frombuffer(counts.encode("ascii"), np.uint8).astype(np.int64) - 48
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise ValueError(f"run lengths {counts!r:.40} are damaged")
    ends = np.flatnonzero(codes & 32 == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    sizes = ends - starts + 1
    if sizes.max() > 7:  # of 35 bits
        raise ValueError(f"run lengths {counts!r:.40} have numbers that are too large")
    places = np.arange(len(codes)) - np.repeat(starts, sizes)
    numbers = np.add.reduceat((codes & 31) << 5 * places, starts)
    numbers -= np.where(codes[ends] & 16, 1 << 5 * sizes, 0)  # two's complement
    for first in (1, 2):
        numbers[first::2] = numbers[first::2].cumsum()
    return numbers.tolist()
