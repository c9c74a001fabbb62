"""The swap: what a config becomes with XCiT in the place of its backbone."""

from collections.abc import Mapping
from typing import NamedTuple

from mmengine.config import Config
from mmengine.logging import print_log

from xcit_dense.mm.config import PACKAGES, dicts_in, model_scope, type_name
from xcit_dense.network import STRIDES, resolve_arch
from xcit_dense.network.architectures import DROP_PATH_RATES
from xcit_dense.network.stem import PATCH_SIZES
from xcit_dense.swap import rules
from xcit_dense.swap.levels import (
    BoundBackboneError,
    Level,
    MeasuredBackbone,
    SwapError,
    located,
    measure_backbone,
)
from xcit_dense.swap.readers import find_readers
from xcit_dense.swap.recipe import normalize_as_imagenet, use_recipe_of_xcit

# that a user of XCiT has set, and that hold for another size of it
_KEPT_OPTIONS = ("norm_cfg", "drop_path_rate", "frozen_stages", "attention", "contiguous_outputs")


class Swap(NamedTuple):
    """A new config, and what a user should know of it beyond the backbone, in sentences."""

    config: Config
    notes: tuple[str, ...]


def swap_backbone(
    cfg: Config, arch: str | Mapping = "small_12", patch_size: int = 16, weights: str | None = None
) -> Config:
    """Put XCiT in the place of the backbone of an mmdet or mmseg config.

    The old backbone is built and run on a small image to see which levels it gives. The neck, or
    the heads where there is none, tell which of them are read: XCiT gives these and no others, at
    the same strides. Widths, indices, optimizer, normalization of the images and ``custom_imports``
    follow. What was changed is logged.

    Args:
        cfg: the config; stays as it is.
        arch: ``nano_12 tiny_12 tiny_24 small_12 small_24 medium_24 large_24`` or a dict of sizes.
        patch_size: 8 or 16.
        weights: path or URL of weights for the backbone; None starts from random ones.

    Returns:
        A new config.

    Raises:
        SwapError: the model can do with no other backbone, or is not understood; says where.
        ValueError: no such architecture or patch size.
    """
    swap = plan_swap(cfg, arch, patch_size, weights)
    for note in swap.notes:
        print_log(note, logger="current")
    return swap.config


def plan_swap(
    cfg: Config, arch: str | Mapping = "small_12", patch_size: int = 16, weights: str | None = None
) -> Swap:
    """What :func:`swap_backbone` does, with its notes instead of a log."""
    width = resolve_arch(arch).embed_dims
    if patch_size not in PATCH_SIZES:
        raise ValueError(f"patch_size={patch_size} must be one of {PATCH_SIZES}")
    new, notes = cfg.to_dict(), []
    if not isinstance(new.get("model"), dict):
        raise SwapError("model", "the config has none")
    with located("model"):
        scope = model_scope(new)
        if scope not in PACKAGES:
            raise SwapError("default_scope", f"{scope!r}, must be {' or '.join(PACKAGES)}")
        path, parent = _find_backbone(new["model"], notes)
    with located(f"{path}.backbone"):
        old_config = parent["backbone"]
        old = measure_backbone(old_config, scope, f"{path}.backbone")
        strides = _read_xcit(parent, path, old, width, notes)
        parent["backbone"] = _xcit(arch, patch_size, weights, strides, old_config)
        if any(type_name(node) in rules.VIEWING_HEADS for _, node in dicts_in(parent)):
            parent["backbone"]["contiguous_outputs"] = True
        _forget_old_weights(new["model"], path, notes)
    with located("optim_wrapper"):
        use_recipe_of_xcit(new, scope, path, parent["backbone"], notes)
    with located("model.data_preprocessor"):
        normalize_as_imagenet(new, notes)
    _import_xcit(new)
    _forget_the_old_run(new, notes)
    if weights is None:
        notes.append("The backbone starts from random weights; give weights to start from others.")
    return Swap(Config(new), tuple(notes))


def _find_backbone(model: dict, notes: list[str]) -> tuple[str, dict]:
    """The path of the dict that has the backbone, and that; the outermost where several have."""
    found = [
        (path, node)
        for path, node in dicts_in(model, "model")
        if isinstance(node.get("backbone"), dict) and "type" in node["backbone"]
    ]
    if not found:
        reason = f"{type_name(model)} has no backbone=dict(type=...) inside"
        raise BoundBackboneError("model", reason)
    depth = min(path.count(".") for path, _ in found)
    outermost = [(path, node) for path, node in found if path.count(".") == depth]
    candidates = [place for place in outermost if place[0].endswith(".detector")] or outermost
    if len(candidates) > 1:
        places = ", ".join(f"{path}.backbone" for path, _ in outermost)
        raise SwapError("model", f"several backbones, {places}: which one?")
    [(path, parent)] = candidates
    others = [f"{other}.backbone" for other, _ in found if other != path]
    others += [f"{path}.{key}" for key in parent if key.endswith("_backbone")]
    notes += [f"{other} stays as it is." for other in others]
    return path, parent


def _read_xcit(
    parent: dict, path: str, old: MeasuredBackbone, width: int, notes: list[str]
) -> tuple[int, ...]:
    """Let neck or heads read maps of XCiT; the strides of those that they read."""
    with located(f"{path}.neck"):
        old = _without_pyramid_of_one_stride(parent, path, old, notes)
    readers = find_readers(parent, path, old)
    for reader in readers:
        reader.check_widths(old)
    used = sorted({level for reader in readers for level in reader.levels})
    strides = _strides_for([old.levels[level].stride for level in used], f"{path}.backbone", notes)
    places = {level: place for place, level in enumerate(used)}
    for reader in readers:
        with located(reader.path):
            reader.rewrite(places, width)
    return strides


def _without_pyramid_of_one_stride(
    parent: dict, path: str, backbone: MeasuredBackbone, notes: list[str]
) -> MeasuredBackbone:
    """Take out a neck that makes a pyramid of maps of one stride: XCiT has its own."""
    neck = parent.get("neck")
    if not isinstance(neck, dict) or type_name(neck) not in rules.PYRAMIDS_OF_ONE_STRIDE:
        return backbone
    parent["neck"] = None
    notes.append(f"{path}.neck, a {type_name(neck)}, is None: XCiT has a pyramid of its own.")
    rescales = neck.get("rescales", [4, 2, 1, 0.5])
    levels = [
        Level(round(level.stride / rescale), neck["embed_dim"])
        for level, rescale in zip(backbone.levels, rescales, strict=True)
    ]
    return MeasuredBackbone(backbone.name, tuple(levels))


def _strides_for(old: list[int], path: str, notes: list[str]) -> tuple[int, ...]:
    """The strides for XCiT, as near to those of the old levels as it can come."""
    new = [max(stride, STRIDES[0]) for stride in old]
    if len(old) > len(STRIDES) or old != sorted(old) or not set(new) <= set(STRIDES):
        has = f"up to {len(STRIDES)}, from fine to coarse, of {', '.join(map(str, STRIDES))}"
        raise SwapError(path, f"levels of strides {old} are read; XCiT gives {has}")
    if new != old:
        notes.append(f"{path}: strides {old} become {new}, XCiT's finest.")
    return tuple(new)


def _xcit(
    arch: str | Mapping, patch_size: int, weights: str | None, strides: tuple[int, ...], old: dict
) -> dict:
    backbone = {
        "type": "XCiT",
        "arch": arch if isinstance(arch, str) else dict(arch),
        "patch_size": patch_size,
        "norm_cfg": {"type": "SyncBN"},  # as in the paper's release; BN where not distributed
    }
    if isinstance(arch, str) and arch in DROP_PATH_RATES:
        backbone["drop_path_rate"] = DROP_PATH_RATES[arch]
    if strides != STRIDES:
        backbone["out_strides"] = strides
    if type_name(old) == "XCiT":
        backbone |= {key: old[key] for key in _KEPT_OPTIONS if key in old}
    if old.get("in_channels", 3) != 3:
        backbone["in_channels"] = old["in_channels"]
    if old.get("with_cp"):
        backbone["with_cp"] = True
    if weights is not None:
        backbone["init_cfg"] = {"type": "Pretrained", "checkpoint": weights}
    return backbone


def _forget_old_weights(model: dict, path: str, notes: list[str]) -> None:
    """Take out the weights of the old backbone where they stand outside of it."""
    for where, node in dicts_in(model, "model"):
        holds_backbone = f"{path}.".startswith(f"{where}.")
        if holds_backbone and node.get("pretrained"):
            node["pretrained"] = None
        is_stage = where.endswith(".shared_head")
        if (holds_backbone or is_stage) and "Pretrained" in str(node.get("init_cfg")):
            node["init_cfg"] = None
            notes.append(f"{where}.init_cfg is None: its weights were for the old backbone.")


def _import_xcit(cfg: dict) -> None:
    given = cfg.get("custom_imports") or {}
    imports = given.get("imports", [])
    imports = [imports] if isinstance(imports, str) else list(imports)
    if "xcit_dense" not in imports:
        # the first: it supplies ops that others look for when they are imported
        imports.insert(0, "xcit_dense")
    defaults = {"imports": [], "allow_failed_imports": False}
    cfg["custom_imports"] = defaults | given | {"imports": imports}


def _forget_the_old_run(cfg: dict, notes: list[str]) -> None:
    """Neither load nor overwrite checkpoints of the old backbone, as configs of old runs would."""
    for key, nothing, why in (
        ("load_from", None, "has another backbone"),
        ("resume", False, "no run goes on with another backbone"),
        ("work_dir", None, "has the checkpoints of the old run"),
    ):
        if cfg.get(key):
            notes.append(f"{key} is {nothing}, was {cfg[key]}: {why}.")
            cfg[key] = nothing
