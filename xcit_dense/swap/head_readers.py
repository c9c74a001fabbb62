"""How heads read a backbone, where no neck stands between."""

from collections.abc import Iterator
from functools import partial

from xcit_dense.mm.config_tree import dicts_in, type_name
from xcit_dense.swap.measured_backbone import MeasuredBackbone
from xcit_dense.swap.reader import Reader
from xcit_dense.swap.swap_error import SwapError, located

SEGMENTATION_HEADS = ("decode_head", "auxiliary_head")
# further keys with the width of one level: key to the level
_EXTRA_WIDTHS = {"c1_in_channels": 0}


def segmentation_readers(segmentor: dict, path: str, backbone: MeasuredBackbone) -> list[Reader]:
    """The heads of a segmentor, auxiliary and nested ones included.

    Raises:
        SwapError: a head is not understood.
    """
    readers = []
    for key in SEGMENTATION_HEADS:
        heads = segmentor.get(key) or []
        for index, head in enumerate(heads if isinstance(heads, (list, tuple)) else [heads]):
            where = f"{path}.{key}" + (f".{index}" if isinstance(heads, (list, tuple)) else "")
            with located(where):
                found = list(_readers_in_head(head, where, backbone))
                name = type_name(head)
            if not found:
                raise SwapError(where, f"{name} does not say which widths it reads")
            readers += found
    return readers


def _readers_in_head(head: dict, path: str, backbone: MeasuredBackbone) -> Iterator[Reader]:
    if "in_channels" in head:
        yield from _readers_of_node(head, path, backbone)
        return
    for where, node in dicts_in(head, path):  # a head made of heads
        if "in_index" in node:
            yield from _readers_of_node(node, where, backbone)


def _readers_of_node(node: dict, path: str, backbone: MeasuredBackbone) -> Iterator[Reader]:
    if "in_channels" not in node:
        raise SwapError(path, f"{type_name(node)} does not say in_channels: it may read any width")
    count = len(backbone.levels)
    indices = node.get("in_index")
    more = partial(_widen_its_classifier, node) if _only_classifies(node) else None
    if indices is None:
        # mm's heads take the last level, or, told several widths, all of them
        one = isinstance(node["in_channels"], int)
        levels = (count - 1,) if one else tuple(range(count))
        yield Reader(node, path, levels, "in_channels", more=more)
    else:
        wanted = [indices] if isinstance(indices, int) else indices
        if any(not -count <= index < count for index in wanted):
            raise SwapError(
                f"{path}.in_index", f"{indices}, but {backbone.name} gives {count} levels"
            )
        levels = tuple(index % count for index in wanted)
        if type_name(node) == "EncHead" and not node.get("add_lateral"):
            # it is told several levels, and learns from the last of them
            widths = list(node["in_channels"])[-1:]
            yield Reader(node, path, levels[-1:], "in_channels", "in_index", widths)
        else:
            yield Reader(node, path, levels, "in_channels", "in_index", more=more)
    for key, level in _EXTRA_WIDTHS.items():
        if node.get(key):
            yield Reader(node, path, (level,), key)


def _only_classifies(node: dict) -> bool:
    """Whether a head has no convolutions, so that it is as wide as what it reads."""
    widths = node["in_channels"]
    width = widths if isinstance(widths, int) else sum(widths)
    return node.get("num_convs") == 0 and node.get("channels") == width


def _widen_its_classifier(node: dict, places: dict[int, int], width: int) -> None:
    widths = node["in_channels"]
    node["channels"] = widths if isinstance(widths, int) else sum(widths)


def detection_readers(detector: dict, path: str, backbone: MeasuredBackbone) -> list[Reader]:
    """The heads of a detector that has no neck.

    Raises:
        SwapError: no head takes the levels as they are.
    """
    levels = tuple(range(len(backbone.levels)))
    readers = [
        Reader(head, f"{path}.{key}", levels, "in_channels")
        for key, head in detector.items()
        if isinstance(head, dict) and isinstance(head.get("in_channels"), (list, tuple))
    ]
    if readers:
        return [each for each in readers if each.widths == backbone.channels] or readers
    if len(backbone.levels) == 1:
        return [_single_level_reader(detector, path, backbone)]
    raise SwapError(path, "no neck, and no head with a list of in_channels: who reads the levels?")


def _single_level_reader(detector: dict, path: str, backbone: MeasuredBackbone) -> Reader:
    """Detectors on one level (C4, dilated C5): their parts are bound to its width.

    A layer of 1x1 is put in between, which keeps the width for the stages that are part of heads.
    """
    old_width = backbone.levels[0].channels
    widths = [node.get("in_channels") for _, node in dicts_in(detector, path)]
    if old_width not in widths:
        raise SwapError(path, f"no neck, and no head with in_channels={old_width}")
    neck = {
        "type": "ChannelMapper",
        "in_channels": [old_width],
        "kernel_size": 1,
        "out_channels": old_width,
        "num_outs": 1,
    }

    def put_in_between(places: dict[int, int], width: int) -> None:
        detector["neck"] = neck

    return Reader(neck, path, (0,), "in_channels", more=put_in_between)
