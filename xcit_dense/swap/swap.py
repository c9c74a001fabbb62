"""The swap in a whole config."""

from collections.abc import Mapping
from dataclasses import dataclass

from mmengine.config import Config
from mmengine.logging import print_log

from xcit_dense.mm.config_tree import PACKAGES, model_scope
from xcit_dense.network import resolve_arch
from xcit_dense.swap.model_swap import swap_in_model
from xcit_dense.swap.normalization import normalize_as_imagenet
from xcit_dense.swap.recipe import swap_recipe
from xcit_dense.swap.swap_error import SwapError, located


@dataclass(frozen=True)
class Swap:
    """A swapped config, and what a user should know of it.

    Attributes:
        config: the new config.
        notes: what was changed beyond the backbone, and what was left, one sentence each.
    """

    config: Config
    notes: tuple[str, ...]


def swap_backbone(
    cfg: Config,
    arch: str | Mapping = "small_12",
    patch_size: int = 16,
    weights: str | None = None,
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
    cfg: Config,
    arch: str | Mapping = "small_12",
    patch_size: int = 16,
    weights: str | None = None,
) -> Swap:
    """What :func:`swap_backbone` does, with its notes instead of a log."""
    resolve_arch(arch)
    new = cfg.to_dict()
    if not isinstance(new.get("model"), dict):
        raise SwapError("model", "the config has none")
    with located("model.type"):
        scope = _scope_of(new)
    swap = swap_in_model(new["model"], scope, arch, patch_size, weights)
    with located("optim_wrapper"):
        recipe_notes = swap_recipe(new, scope, swap)
    with located("model.data_preprocessor"):
        normalization_notes = normalize_as_imagenet(new)
    notes = [
        *swap.notes,
        *recipe_notes,
        *normalization_notes,
        *_import_xcit(new),
        *_forget_the_old_run(new),
    ]
    if weights is None:
        notes.append("The backbone starts from random weights; give weights to start from others.")
    return Swap(Config(new), tuple(notes))


def _scope_of(cfg: dict) -> str:
    """The package that the model is from."""
    scope = model_scope(cfg)
    if scope not in PACKAGES:
        raise SwapError(
            "default_scope",
            f"{scope!r}, must be one of {', '.join(PACKAGES)}: the package that the model is from",
        )
    return scope


def _import_xcit(cfg: dict) -> list[str]:
    given = cfg.get("custom_imports") or {}
    imports = given.get("imports", [])
    imports = [imports] if isinstance(imports, str) else list(imports)
    if "xcit_dense" not in imports:
        # the first: it supplies ops that others look for when they are imported
        imports.insert(0, "xcit_dense")
    cfg["custom_imports"] = {**given, "imports": imports}
    cfg["custom_imports"].setdefault("allow_failed_imports", False)
    return []


def _forget_the_old_run(cfg: dict) -> list[str]:
    """Neither load nor overwrite checkpoints of the old backbone, as configs of old runs would."""
    notes = []
    if cfg.get("load_from"):
        notes.append(f"load_from is None: {cfg['load_from']} has another backbone.")
        cfg["load_from"] = None
    if cfg.get("resume"):
        notes.append("resume is False: no run goes on with another backbone.")
        cfg["resume"] = False
    if cfg.get("work_dir"):
        notes.append(f"work_dir is None: {cfg['work_dir']} has the checkpoints of the old run.")
        cfg["work_dir"] = None
    return notes
