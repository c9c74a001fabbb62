"""What a file in COCO's format may hold: sizes, boxes, polygons, run lengths and ids."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from xcit_dense.errors import Finding, findings_by_kind

MAX_PIXELS = 2**31
"""Of an annotated image: pycocotools counts the pixels of a mask in 32 bits."""

_LISTS = ("images", "categories", "annotations")
_REMEDY = "export it anew in COCO's format: a dict with the lists images, categories, annotations"
_MEND = "mend or remove them"

_NO_AREA = Finding(
    "have no area, or 0: that of the box counts",
    "write their areas, by which COCO's evaluation tells small from large",
    is_wrong=False,
)
_NEGATIVE = Finding(
    "have a box of negative width or height, corners are swapped: mmdet leaves them out",
    "write bbox as [left, top, width, height]",
    is_wrong=False,
)
_NO_EXTENT = Finding(
    "have a box smaller than a pixel, or outside of its image: mmdet leaves them out",
    _MEND,
    is_wrong=False,
)
_OUTSIDE = Finding(
    "have a box or a polygon that reaches out of its image: what is outside is never seen",
    "cut them at the edges; see that width and height are those of the images",
    is_wrong=False,
)

DOUBTS_OF_BOXES = (_NEGATIVE, _NO_EXTENT, _OUTSIDE)


class _Fault(ValueError):
    """That a record breaks a rule: the rule, what was found, and the remedy."""

    def __init__(self, rule: str, found: str = "", remedy: str = _MEND) -> None:
        super().__init__(rule)
        self.found, self.remedy = found, remedy


def check_coco(content: Any, with_masks: bool = True) -> list[Finding]:
    """Check the content of an annotation file, and complete what exporters leave out, in place.

    ``iscrowd`` is 0 where it is missing, and ``area`` that of the box where it is missing or 0:
    mmdet leaves such objects out of training. Objects are numbered anew where one has the id 0,
    which COCO's evaluation takes for none, or a text.

    Args:
        content: what is in the file, in COCO's format (https://cocodataset.org/#format-data).
        with_masks: whether every object needs a mask; else ``segmentation`` is not looked at.

    Returns:
        What cannot be used, which is wrong, and what a user should know.
    """
    if not isinstance(content, dict):
        text = f"is {type(content).__name__}, no dict with the lists {', '.join(_LISTS)}"
        return [Finding(text, _REMEDY)]
    for name in _LISTS:
        given = content.setdefault(name, [])
        if not isinstance(given, list):
            return [Finding(f"{name!r} must be a list, and is {type(given).__name__}", _REMEDY)]
    if not content["images"]:
        return [Finding("lists no images", _REMEDY)]
    findings: list[Finding] = []
    images = _check_all(content, "images", _check_image, findings)
    categories = _check_all(content, "categories", _check_category, findings)
    if findings:
        return findings
    check = partial(_check_object, images=images, categories=categories, with_masks=with_masks)
    _check_all(content, "annotations", check, findings)
    objects = content["annotations"]
    is_sound = not any(finding.is_wrong for finding in findings)
    if is_sound and any(type(one["id"]) is not int or not one["id"] for one in objects):
        for number, record in enumerate(objects, start=1):
            record["id"] = number
    return findings


def _check_all(
    content: Mapping[str, Any],
    name: str,
    check: Callable[[dict], Sequence[Finding]],
    findings: list[Finding],
) -> dict[Any, dict]:
    """Check the records of a list, and add what is found; returns them by their ids."""
    by_id: dict[Any, dict] = {}
    found: list[tuple[Finding, str]] = []
    for number, record in enumerate(content[name]):
        try:
            if not isinstance(record, dict):
                raise _Fault("is no object of JSON", f"{record!r:.40}")
            identity = record["id"]
            if not isinstance(identity, int | str):
                raise _Fault("the id must be a whole number or a text", f"{identity!r:.40}")
            if isinstance(identity, int) and abs(identity) >= 2**63:
                raise _Fault("the id must fit into 64 bits")
            if identity in by_id:
                raise _Fault("another one has this id", remedy="number them anew")
            found += [(doubt, _place(record, name, number)) for doubt in check(record)]
            by_id[identity] = record
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            rule = f"has no {error}" if isinstance(error, KeyError) else str(error)
            kind = Finding(f"cannot be used, {rule}", getattr(error, "remedy", _MEND))
            detail = f": {error.found}" if getattr(error, "found", "") else ""
            found.append((kind, _place(record, name, number) + detail))
    findings += findings_by_kind(found, len(content[name]), name)
    return by_id


def _place(record: Any, name: str, number: int) -> str:
    has_id = isinstance(record, dict) and "id" in record
    return f"{name}[{number}] (id {record['id']!r:.40})" if has_id else f"{name}[{number}]"


def _check_image(record: dict) -> Sequence[Finding]:
    for side in ("width", "height"):
        value = record[side]
        if not isinstance(value, int | float) or value < 1 or value % 1:
            raise _Fault(f"{side} must be a whole number of pixels", f"{side} {value!r:.40}")
        record[side] = int(value)
    if record["width"] * record["height"] > MAX_PIXELS:
        raise _Fault("has more than 2^31 pixels", f"{record['width']} x {record['height']}")
    if not isinstance(record["file_name"], str):
        raise _Fault("file_name must be a text", f"file_name {record['file_name']!r:.40}")
    return ()


def _check_category(record: dict) -> Sequence[Finding]:
    if not isinstance(record["name"], str):
        raise _Fault("name must be a text", f"name {record['name']!r:.40}")
    return ()


def _check_object(
    record: dict, images: dict[Any, dict], categories: dict[Any, dict], with_masks: bool
) -> Sequence[Finding]:
    for key, known in (("image_id", images), ("category_id", categories)):
        if not isinstance(record[key], int | str) or record[key] not in known:
            is_alike = type(record[key]) is type(next(iter(known), None))
            remedy = _MEND if is_alike else "write ids as numbers, in all lists"
            raise _Fault(f"{key} is the id of none", f"{key} {record[key]!r:.40}", remedy)
    height, width = (images[record["image_id"]][side] for side in ("height", "width"))
    doubts = [_doubt_of_box(record["bbox"], height, width), _complete(record)]
    if with_masks:
        doubts.append(_check_mask(record.get("segmentation"), height, width))
    return [*dict.fromkeys(filter(None, doubts))]


def _doubt_of_box(box: Any, height: int, width: int) -> Finding | None:
    """Why mmdet leaves a box out, which must be near its image."""
    is_box = isinstance(box, list) and len(box) == 4 and all(type(x) in (int, float) for x in box)
    if not is_box or not all(map(math.isfinite, box)):
        raise _Fault("bbox must be [left, top, width, height], in pixels", f"bbox {box!r:.80}")
    left, top, across, down = box
    margin = max(height, width)
    if min(left, top) < -margin or max(left + across, top + down) > 2 * margin:
        found = f"bbox {box!r:.80}, image {width} x {height}"
        raise _Fault("the bbox is far outside of its image", found)
    if min(across, down) < 0:
        return _NEGATIVE
    if min(across, down) < 1 or not (-across < left < width and -down < top < height):
        return _NO_EXTENT
    is_inside = min(left, top) >= -1 and left + across <= width + 1 and top + down <= height + 1
    return None if is_inside else _OUTSIDE


def _complete(record: dict) -> Finding | None:
    if record.setdefault("iscrowd", 0) not in (0, 1):
        raise _Fault("iscrowd must be 0 or 1", f"iscrowd {record['iscrowd']!r:.40}")
    if not math.isfinite(record.get("area") or 0):
        raise _Fault("area must be a number of pixels", f"area {record['area']}")
    if (record.get("area") or 0) <= 0:
        record["area"] = record["bbox"][2] * record["bbox"][3]
        return _NO_AREA
    return None


def _check_mask(mask: Any, height: int, width: int) -> Finding | None:
    """See that a mask is polygons near the image, or run lengths that fill it."""
    if not mask:
        remedy = "draw them, or train on boxes alone: with_mask=False, no mask_head, metric='bbox'"
        raise _Fault("has no segmentation, and the config reads masks", remedy=remedy)
    is_polygons = isinstance(mask, list) and all(isinstance(polygon, list) for polygon in mask)
    if not is_polygons and not isinstance(mask, dict):
        rule = "must be a list of polygons, [[x1, y1, x2, y2, ...], ...], or run lengths"
        raise _Fault(f"segmentation {rule}", f"{mask!r:.60}")
    if is_polygons:
        # pycocotools walks along every edge, so that what is far away takes time and memory
        margin, is_inside = max(height, width), True
        for polygon in mask:
            if len(polygon) < 6 or len(polygon) % 2 or not all(map(math.isfinite, polygon)):
                rule = "a polygon must be [x1, y1, x2, y2, ...] of three points or more"
                raise _Fault(rule, f"{polygon!r:.60}")
            least, right, bottom = min(polygon), max(polygon[::2]), max(polygon[1::2])
            if least < -margin or max(right, bottom) > 2 * margin:
                raise _Fault("a polygon is far outside of its image", f"{polygon!r:.60}")
            is_inside &= least >= -1 and right <= width + 1 and bottom <= height + 1
        return None if is_inside else _OUTSIDE
    if mask["size"] != [height, width]:
        rule = "run lengths must have the size of the image, [height, width]"
        raise _Fault(rule, f"size {mask['size']!r:.40}, image [{height}, {width}]")
    counts = mask["counts"]
    if not isinstance(counts, list | str):
        raise _Fault("counts of run lengths must be a list or a text", f"counts {counts!r:.40}")
    lengths = counts if isinstance(counts, list) else run_lengths(counts)
    if any(type(length) is not int or length < 0 for length in lengths):
        raise _Fault("run lengths must be whole numbers, 0 or more")
    if sum(lengths) != height * width:
        found = f"{sum(lengths)} pixels, the image has {height * width}"
        raise _Fault("run lengths must cover the image", found)
    return None


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
        raise _Fault("run lengths are damaged", f"{counts!r:.40}")
    ends = np.flatnonzero(codes & 32 == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    sizes = ends - starts + 1
    if sizes.max() > 7:  # of 35 bits
        raise _Fault("run lengths have numbers that are too large", f"{counts!r:.40}")
    places = np.arange(len(codes)) - np.repeat(starts, sizes)
    numbers = np.add.reduceat((codes & 31) << 5 * places, starts)
    numbers -= np.where(codes[ends] & 16, 1 << 5 * sizes, 0)  # two's complement
    for first in (1, 2):
        numbers[first::2] = numbers[first::2].cumsum()
    return numbers.tolist()
