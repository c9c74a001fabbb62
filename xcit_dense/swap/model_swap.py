"""The swap in the model: backbone, what reads it, and how images are normalized for it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from xcit_dense.mm.config_tree import dicts_in, module_prefix, type_name
from xcit_dense.network import STRIDES, resolve_arch
from xcit_dense.swap.bound_backbones import refuse_bound_backbone
from xcit_dense.swap.head_readers import (
    SEGMENTATION_HEADS,
    detection_readers,
    segmentation_readers,
)
from xcit_dense.swap.measured_backbone import (
    Level,
    MeasuredBackbone,
    measure_backbone,
)
from xcit_dense.swap.neck_readers import neck_reader
from xcit_dense.swap.reader import Reader
from xcit_dense.swap.swap_error import BoundBackboneError, SwapError, located

# Source: the recipes of the XCiT paper's release; it has none for nano_12 and large_24.
_DROP_PATH_RATES = {
    "small_12": 0.05,
    "small_24": 0.1,
    "medium_24": 0.15,
    "large_24": 0.15,
}
# that a user of XCiT has set, and that hold for another size of it
_OPTIONS_OF_XCIT = (
    "norm_cfg",
    "drop_path_rate",
    "frozen_stages",
    "attention",
    "contiguous_outputs",
)
# heads that call ``view`` across batch and channels of what they get
_VIEWING_HEADS = ("DMHead",)


@dataclass
class ModelSwap:
    """What was swapped in a model.

    Attributes:
        old: the backbone that was there.
        new: the dict of the one that is there now.
        prefix: what names of parameters have before ``backbone``: ``detector.`` in trackers.
        notes: what a user should know, one sentence each.
    """

    old: MeasuredBackbone
    new: dict
    prefix: str
    notes: list[str]


def swap_in_model(
    model: dict, scope: str, arch: str | Mapping, patch_size: int, weights: str | None
) -> ModelSwap:
    """Put XCiT in the place of a model's backbone, in place.

    Args:
        model: ``model`` of a config.
        scope: ``mmdet`` or ``mmseg``.
        arch: architecture of XCiT, a name or a dict of sizes.
        patch_size: 8 or 16.
        weights: path or URL of weights for the backbone, None for random ones.

    Raises:
        SwapError: the model can do with no other backbone, or is not understood; what is left of
            ``model`` is of no use then.
    """
    with located("model"):
        path, parent, notes = _find_backbone(model)
    old_config = parent["backbone"]
    with located(f"{path}.backbone"):
        refuse_bound_backbone(type_name(old_config), f"{path}.backbone")
        old = measure_backbone(old_config, scope, f"{path}.backbone")
    with located(f"{path}.neck"):
        read = _without_feature_pyramid(parent, path, old, notes)
    readers = find_readers(parent, path, read)
    for reader in readers:
        reader.check_widths(read)
    used = sorted({level for reader in readers for level in reader.levels})
    strides = _strides_for([read.levels[level] for level in used], f"{path}.backbone", notes)
    width = resolve_arch(arch).embed_dims
    for reader in readers:
        with located(reader.path):
            reader.rewrite({level: place for place, level in enumerate(used)}, width)

    with located(f"{path}.backbone"):
        plain_layout = any(type_name(node) in _VIEWING_HEADS for _, node in dicts_in(parent, path))
        parent["backbone"] = _xcit(arch, patch_size, weights, strides, old_config, plain_layout)
        notes += _forget_frozen_stages(old_config, f"{path}.backbone")
        notes += _forget_old_weights(model, path)
    return ModelSwap(old, parent["backbone"], module_prefix(model, path), notes)


def _find_backbone(model: dict) -> tuple[str, dict, list[str]]:
    """The dict that has the backbone, and its path; the outermost where there are several."""
    found = [
        (path, node)
        for path, node in dicts_in(model, "model")
        if isinstance(node.get("backbone"), dict) and "type" in node["backbone"]
    ]
    if not found:
        reason = f"{type_name(model)} has no backbone=dict(type=...) inside"
        raise BoundBackboneError("model", reason)
    found.sort(key=lambda place: place[0].count("."))
    outermost = [place for place in found if place[0].count(".") == found[0][0].count(".")]
    detectors = [place for place in outermost if place[0].endswith((".detector", "model"))]
    if len(detectors or outermost) > 1:
        places = ", ".join(f"{path}.backbone" for path, _ in outermost)
        raise SwapError("model", f"several backbones, {places}: which one?")
    path, parent = (detectors or outermost)[0]
    others = [f"{other}.backbone" for other, _ in found if other != path]
    others += [f"{path}.{key}" for key in parent if key.endswith("_backbone")]
    return path, parent, [f"{other} stays as it is." for other in others]


def find_readers(parent: dict, path: str, backbone: MeasuredBackbone) -> list[Reader]:
    """Who reads a backbone: the neck, or else the heads.

    Args:
        parent: the dict that has backbone, neck and heads.
        path: where it stands.
        backbone: what is read.

    Raises:
        SwapError: a reader is not understood.
    """
    neck = parent.get("neck")
    if neck:
        several = isinstance(neck, (list, tuple))
        first, where = (neck[0], f"{path}.neck.0") if several else (neck, f"{path}.neck")
        with located(where):
            return [neck_reader(first, where, parent, backbone)]
    if any(key in parent for key in SEGMENTATION_HEADS):
        return segmentation_readers(parent, path, backbone)
    with located(path):
        return detection_readers(parent, path, backbone)


def _without_feature_pyramid(
    parent: dict, path: str, backbone: MeasuredBackbone, notes: list[str]
) -> MeasuredBackbone:
    """Take out a neck that makes a pyramid of maps of one stride: XCiT has its own."""
    neck = parent.get("neck")
    if not isinstance(neck, dict) or type_name(neck) != "Feature2Pyramid":
        return backbone
    parent["neck"] = None
    notes.append(f"{path}.neck, a Feature2Pyramid, is None: XCiT has a pyramid of its own.")
    rescales = neck.get("rescales", [4, 2, 1, 0.5])
    levels = [
        Level(round(level.stride / rescale), neck["embed_dim"])
        for level, rescale in zip(backbone.levels, rescales, strict=True)
    ]
    return replace(backbone, levels=tuple(levels))


def _strides_for(levels: list[Level], path: str, notes: list[str]) -> tuple[int, ...]:
    """The strides for XCiT, as near to those of the old levels as it can come."""
    old = [level.stride for level in levels]
    if len(old) > len(STRIDES):
        raise SwapError(path, f"{len(old)} levels are read; XCiT has up to {len(STRIDES)}")
    if old != sorted(old):
        raise SwapError(path, f"levels of strides {old}: XCiT's go from fine to coarse")
    if any(stride > STRIDES[-1] or stride & (stride - 1) for stride in old):
        raise SwapError(path, f"levels of strides {old}: XCiT has {', '.join(map(str, STRIDES))}")
    new = [max(stride, STRIDES[0]) for stride in old]
    if new != old:
        notes.append(f"{path}: strides {old} become {new}, XCiT's finest.")
    return tuple(new)


def _xcit(
    arch: str | Mapping,
    patch_size: int,
    weights: str | None,
    strides: tuple[int, ...],
    old: dict,
    plain_layout: bool,
) -> dict[str, Any]:
    backbone = {
        "type": "XCiT",
        "arch": arch if isinstance(arch, str) else dict(arch),
        "patch_size": patch_size,
        "norm_cfg": {"type": "SyncBN"},  # as in the paper's release; BN where not distributed
    }
    if isinstance(arch, str) and arch in _DROP_PATH_RATES:
        backbone["drop_path_rate"] = _DROP_PATH_RATES[arch]
    if strides != STRIDES:
        backbone["out_strides"] = strides
    if type_name(old) == "XCiT":
        backbone |= {key: old[key] for key in _OPTIONS_OF_XCIT if key in old}
    if old.get("in_channels", 3) != 3:
        backbone["in_channels"] = old["in_channels"]
    if plain_layout:
        backbone["contiguous_outputs"] = True
    if old.get("with_cp"):
        backbone["with_cp"] = True
    if weights is not None:
        backbone["init_cfg"] = {"type": "Pretrained", "checkpoint": weights}
    return backbone


def _forget_frozen_stages(old: dict, path: str) -> list[str]:
    frozen = old.get("frozen_stages", -1)
    if type_name(old) == "XCiT" or frozen <= 1:  # 0 and 1 are what mm's ResNets always have
        return []
    return [f"{path}.frozen_stages={frozen} is gone: XCiT trains as a whole."]


def _forget_old_weights(model: dict, path: str) -> list[str]:
    """Take out the weights of the old backbone where they stand outside of it."""
    notes = []
    for where, node in dicts_in(model, "model"):
        holds_backbone = f"{path}.".startswith(f"{where}.")
        if holds_backbone and node.get("pretrained"):
            node["pretrained"] = None
        is_stage = where.endswith(".shared_head")
        init = node.get("init_cfg")
        if (holds_backbone or is_stage) and init and "Pretrained" in str(init):
            node["init_cfg"] = None
            notes.append(f"{where}.init_cfg is None: its weights were for the old backbone.")
    return notes
