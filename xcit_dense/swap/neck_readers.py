"""How necks read a backbone."""

from functools import partial

from xcit_dense.mm.config_tree import dicts_in, type_name
from xcit_dense.swap.bound_backbones import refuse_bound_neck
from xcit_dense.swap.head_readers import SEGMENTATION_HEADS
from xcit_dense.swap.measured_backbone import MeasuredBackbone
from xcit_dense.swap.reader import Reader
from xcit_dense.swap.swap_error import SwapError

# necks whose first entry is for the last level
_COARSE_TO_FINE = ("YOLOV3Neck",)


def neck_reader(neck: dict, path: str, detector: dict, backbone: MeasuredBackbone) -> Reader:
    """How a neck, the first one where there are several, reads the backbone.

    Args:
        neck: its dict.
        path: where it stands.
        detector: the dict that has backbone, neck and heads.
        backbone: what it reads.

    Raises:
        SwapError: it is not understood, or fits no other backbone.
    """
    name = type_name(neck)
    refuse_bound_neck(name, path)
    widths = neck.get("in_channels")
    if isinstance(widths, int):
        # a single width with several levels: every such neck takes the last
        return Reader(neck, path, (len(backbone.levels) - 1,), "in_channels")
    if not isinstance(widths, (list, tuple)):
        raise SwapError(path, f"{name} does not say in_channels: no way to tell what it reads")
    if len(widths) != len(backbone.levels):
        raise SwapError(
            f"{path}.in_channels",
            f"{len(widths)} widths, but {backbone.name} gives {len(backbone.levels)} levels",
        )
    levels = tuple(range(len(widths)))
    if name in _COARSE_TO_FINE:
        return Reader(neck, path, levels[::-1], "in_channels")
    if name == "SSDNeck":
        return _ssd_neck_reader(neck, path, detector, levels)
    reader = _pyramid_reader(neck, path, levels)
    if name == "JPU":
        reader.more = partial(_widen_behind_jpu, detector, len(reader.levels) - 1)
    return reader


def _pyramid_reader(neck: dict, path: str, levels: tuple[int, ...]) -> Reader:
    """FPN and its kin: they read from ``start_level`` to ``end_level``."""
    start = neck.get("start_level", 0)
    end = neck.get("end_level", -1)
    stop = len(levels) if end == -1 else end + (not _stops_before_end_level(neck, start, end))
    if not levels[start:stop]:
        reason = f"start_level={start}, end_level={end} read none of {len(levels)} levels"
        raise SwapError(path, reason)
    changes = {}
    if start:
        changes["start_level"] = 0
    if end != -1:
        changes["end_level"] = -1
    widths = list(neck["in_channels"][start:stop])
    return Reader(neck, path, levels[start:stop], "in_channels", widths=widths, changes=changes)


def _stops_before_end_level(neck: dict, start: int, end: int) -> bool:
    """mmdet's necks read ``end_level`` itself too; mmseg's JPU and FPN do not.

    An FPN of mmseg is told by its number of maps, which mmdet's would refuse.
    """
    return type_name(neck) == "JPU" or neck.get("num_outs") == end - start


def _widen_behind_jpu(segmentor: dict, count: int, places: dict[int, int], width: int) -> None:
    """JPU hands on all levels but the last as they are; heads may read these, too."""
    for key in SEGMENTATION_HEADS:
        for _, head in dicts_in(segmentor.get(key), key):
            indices, widths = head.get("in_index"), head.get("in_channels")
            if isinstance(indices, int) and _is_handed_on(indices, count):
                head["in_channels"] = width
            elif isinstance(indices, (list, tuple)):
                head["in_channels"] = type(widths)(
                    width if _is_handed_on(index, count) else old
                    for index, old in zip(indices, widths, strict=True)
                )


def _is_handed_on(index: int, count: int) -> bool:
    """Whether one of JPU's maps, counted from either end, is one of the first ``count``."""
    return 0 <= index < count or -count - 1 <= index < -1


def _ssd_neck_reader(neck: dict, path: str, detector: dict, levels: tuple[int, ...]) -> Reader:
    """SSD's neck hands on the levels as they are, before those that it makes."""
    head = detector.get("bbox_head", {})
    count = len(levels)
    first_widths = tuple(neck["in_channels"])
    for node, key, where in [
        (neck, "out_channels", f"{path}.out_channels"),
        (head, "in_channels", f"{path.rpartition('.')[0]}.bbox_head.in_channels"),
    ]:
        if tuple(node.get(key, ()))[:count] != first_widths:
            raise SwapError(where, f"does not begin with the widths {first_widths} of the levels")

    def widen_what_is_handed_on(places: dict[int, int], width: int) -> None:
        for node, key in [(neck, "out_channels"), (head, "in_channels")]:
            node[key] = type(node[key])([width] * count + list(node[key][count:]))

    return Reader(neck, path, levels, "in_channels", more=widen_what_is_handed_on)
