"""What reads the levels of a backbone: the neck, or the heads where there is no neck."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from xcit_dense.mm.config import dicts_in, type_name
from xcit_dense.swap import rules
from xcit_dense.swap.levels import MeasuredBackbone, SwapError, located


@dataclass
class Reader:
    """A part of a model that reads some levels of the backbone.

    Attributes:
        node: its dict in the config, changed by :meth:`rewrite`.
        path: where that stands.
        levels: the levels that it reads, counted from 0, in its order.
        width_key: the key that says how wide they are; an int or a sequence of them.
        index_key: the key that says which levels it reads, if it has one.
        widths: how wide it says that they are; None for what stands at ``width_key``.
        follow: what else is to be done, given the new width.
    """

    node: dict
    path: str
    levels: tuple[int, ...]
    width_key: str = "in_channels"
    index_key: str | None = None
    widths: list[int] | None = None
    follow: Callable[[int], None] | None = None

    def __post_init__(self) -> None:
        if self.widths is None:
            widths = self.node[self.width_key]
            self.widths = [widths] if isinstance(widths, int) else list(widths)

    def check_widths(self, backbone: MeasuredBackbone) -> None:
        """See that it declares the widths which the backbone has.

        Raises:
            SwapError: it declares others.
        """
        measured = [backbone.channels[level] for level in self.levels]
        if self.widths != measured:
            reason = f"{self.widths}, but {backbone.name} gives {measured} there"
            raise SwapError(f"{self.path}.{self.width_key}", reason)

    def rewrite(self, places: dict[int, int], width: int) -> None:
        """Let it read levels of one width, at their new places."""
        self._set(self.width_key, [width] * len(self.levels))
        if self.index_key is not None:
            self._set(self.index_key, [places[level] for level in self.levels])
        whole = {"start_level": 0, "end_level": -1}
        self.node.update({key: whole[key] for key in whole if key in self.node})
        if self.follow is not None:
            self.follow(width)

    def _set(self, key: str, values: list[int]) -> None:
        """Set an entry to a number, a list or a tuple, as it was."""
        old = self.node[key]
        self.node[key] = values[0] if isinstance(old, int) else type(old)(values)


def find_readers(model: dict, path: str, backbone: MeasuredBackbone) -> list[Reader]:
    """Who reads a backbone: the neck, the first one where there are several, or else the heads.

    ``model`` is the dict that has the three, at ``path`` of the config.

    Raises:
        SwapError: a reader is not understood, or fits no other backbone.
    """
    if necks := _parts_at("neck", model, path):
        where, first = necks[0]
        with located(where):
            return [_neck_reader(first, where, model, backbone)]
    heads = [part for key in rules.SEGMENTATION_HEADS for part in _parts_at(key, model, path)]
    if heads:
        return [reader for where, head in heads for reader in _head_readers(head, where, backbone)]
    with located(path):
        return _detection_readers(model, path, backbone)


def _parts_at(key: str, model: dict, path: str) -> list[tuple[str, dict]]:
    """The part, or the several ones, that a model has at a key, and where they stand."""
    parts = model.get(key) or []
    if isinstance(parts, (list, tuple)):
        return [(f"{path}.{key}.{index}", part) for index, part in enumerate(parts)]
    return [(f"{path}.{key}", parts)]


def _neck_reader(neck: dict, path: str, model: dict, backbone: MeasuredBackbone) -> Reader:
    name, widths, count = type_name(neck), neck.get("in_channels"), len(backbone.levels)
    if name in rules.BOUND_NECKS:
        raise SwapError(path, f"{name} takes no other backbone: {rules.BOUND_NECKS[name]}")
    if isinstance(widths, int):  # with several levels: every such neck takes the last
        return Reader(neck, path, (count - 1,))
    if not isinstance(widths, (list, tuple)):
        raise SwapError(path, f"{name} does not say in_channels: no way to tell what it reads")
    if len(widths) != count:
        reason = f"{len(widths)} widths, but {backbone.name} gives {count} levels"
        raise SwapError(f"{path}.in_channels", reason)
    levels = tuple(range(count))
    if name in rules.COARSE_TO_FINE_NECKS:
        return Reader(neck, path, levels[::-1])
    reader = _pyramid_reader(neck, path, levels)
    if name == "SSDNeck":
        reader.follow = lambda width: _widen_behind_ssd_neck(model, count, width)
    if name == "JPU":
        reader.follow = lambda width: _widen_behind_jpu(model, len(reader.levels) - 1, width)
    return reader


def _pyramid_reader(neck: dict, path: str, levels: tuple[int, ...]) -> Reader:
    """FPN and its kin: they read from ``start_level`` to ``end_level``."""
    start, end = neck.get("start_level", 0), neck.get("end_level", -1)
    # mmdet's necks read end_level itself too; mmseg's do not, and an FPN of theirs is told by its
    # number of maps, which mmdet's would refuse
    stops = type_name(neck) in rules.NECKS_THAT_STOP_BEFORE_END_LEVEL
    stops = stops or neck.get("num_outs") == end - start
    read = slice(start, len(levels) if end == -1 else end if stops else end + 1)
    if not levels[read]:
        raise SwapError(path, f"start_level={start}, end_level={end} read none of the levels")
    return Reader(neck, path, levels[read], widths=list(neck["in_channels"][read]))


def _widen_behind_jpu(segmentor: dict, count: int, width: int) -> None:
    """JPU hands on all levels but the last, ``count`` of them; heads may read these, too."""
    for key in rules.SEGMENTATION_HEADS:
        for _, head in dicts_in(segmentor.get(key)):
            indices, widths = head.get("in_index", -1), head.get("in_channels")
            if isinstance(indices, int) and indices % (count + 1) < count:
                head["in_channels"] = width
            elif isinstance(indices, (list, tuple)):
                head["in_channels"] = type(widths)(
                    width if index % (count + 1) < count else old
                    for index, old in zip(indices, widths, strict=True)
                )


def _widen_behind_ssd_neck(detector: dict, count: int, width: int) -> None:
    """SSD's neck hands on the levels, ``count`` of them, before those that it makes."""
    for node, key in [(detector["neck"], "out_channels"), (detector["bbox_head"], "in_channels")]:
        node[key] = type(node[key])([width] * count + list(node[key][count:]))


def _head_readers(head: dict, path: str, backbone: MeasuredBackbone) -> Iterator[Reader]:
    """A head of a segmentor, or those that it is made of."""
    with located(path):
        nodes = [(path, head)]
        if "in_channels" not in head:
            nodes = [(where, node) for where, node in dicts_in(head, path) if "in_index" in node]
        if not nodes:
            raise SwapError(path, f"{type_name(head)} does not say which widths it reads")
        for where, node in nodes:
            yield from _readers_of_node(node, where, backbone)


def _readers_of_node(node: dict, path: str, backbone: MeasuredBackbone) -> Iterator[Reader]:
    name, count = type_name(node), len(backbone.levels)
    if "in_channels" not in node:
        raise SwapError(path, f"{name} does not say in_channels: it may read any width")
    widths, indices = node["in_channels"], node.get("in_index")
    if indices is None:  # mm's heads take the last level, or, told several widths, all of them
        wanted, index_key = [-1] if isinstance(widths, int) else range(count), None
    else:
        wanted, index_key = [indices] if isinstance(indices, int) else indices, "in_index"
    if any(not -count <= index < count for index in wanted):
        raise SwapError(f"{path}.in_index", f"{indices}, but {backbone.name} gives {count} levels")
    levels = tuple(index % count for index in wanted)
    reader = Reader(node, path, levels, index_key=index_key)
    if name in rules.HEADS_OF_THE_LAST_LEVEL and not node.get(rules.HEADS_OF_THE_LAST_LEVEL[name]):
        reader.levels, reader.widths = levels[-1:], reader.widths[-1:]
    if node.get("num_convs") == 0 and node.get("channels") == sum(reader.widths):
        # it only classifies, so that it is as wide as what it reads
        reader.follow = lambda width: node.update(channels=width * len(levels))
    yield reader
    for key, level in rules.EXTRA_WIDTH_KEYS.items():
        if node.get(key):
            yield Reader(node, path, (level,), key)


def _detection_readers(detector: dict, path: str, backbone: MeasuredBackbone) -> list[Reader]:
    """The heads of a detector that has no neck."""
    levels = tuple(range(len(backbone.levels)))
    readers = [
        Reader(head, f"{path}.{key}", levels)
        for key, head in detector.items()
        if isinstance(head, dict) and isinstance(head.get("in_channels"), (list, tuple))
    ]
    if readers:
        return [reader for reader in readers if reader.widths == backbone.channels] or readers
    if len(levels) > 1:
        raise SwapError(path, "no neck, and no head with a list of in_channels: who reads them?")
    return [_single_level_reader(detector, path, backbone.levels[0].channels)]


def _single_level_reader(detector: dict, path: str, old_width: int) -> Reader:
    """Detectors on one level (C4, dilated C5): their parts are bound to its width.

    A layer of 1x1 is put in between, which keeps the width for the stages that are part of heads.
    """
    if all(node.get("in_channels") != old_width for _, node in dicts_in(detector, path)):
        raise SwapError(path, f"no neck, and no head with in_channels={old_width}")
    neck = {"type": "ChannelMapper", "in_channels": [old_width], "out_channels": old_width}
    neck |= {"kernel_size": 1, "num_outs": 1}
    return Reader(neck, path, (0,), follow=lambda width: detector.update(neck=neck))
