"""Published weights: where they are, and fetching them."""

import os
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import timm
import torch
import yaml
from torch import Tensor, distributed

from xcit_dense.errors import UserError
from xcit_dense.weights.safe_loading import DamagedFileError, load_from_local

MODEL_INDEX = Path(__file__).with_name("imagenet_metafile.yml")

# those from which the release starts its detectors and segmentors
KIND_OF_THE_RELEASE = "384_dist"

TIMM = "timm://"


@cache
def published_urls() -> dict[tuple[str, int, str], str]:
    """URLs of the ImageNet weights of the paper's release, by arch, patch size and kind.

    The kind tells how they were trained: ``224`` pixels, ``224_dist`` with distillation,
    ``384_dist`` then fine-tuned at 384 pixels, ``dino`` without labels.
    """
    urls = {}
    for model in yaml.safe_load(MODEL_INDEX.read_text(encoding="utf-8"))["Models"]:
        arch, patch_size = model["Metadata"]["Arch"], model["Metadata"]["Patch Size"]
        kind = model["Name"].removeprefix(f"xcit_{arch}_p{patch_size}_")
        urls[arch, patch_size, kind] = model["Weights"]
    return urls


def published_kinds() -> list[str]:
    """Every kind that there is, for one backbone or another."""
    return list(dict.fromkeys(kind for _, _, kind in published_urls()))


def published_url(kind: str, arch: str | Mapping, patch_size: int) -> str:
    """The URL of the published weights for a backbone.

    Raises:
        UserError: there are none; says for which kinds or backbones there are.
    """
    offered = {
        other: url
        for (*backbone, other), url in published_urls().items()
        if backbone == [arch, patch_size]
    }
    if kind not in offered:
        raise UserError(
            f"no weights {kind!r} are published for arch={arch!r}, patch_size={patch_size}; "
            f"there are {', '.join(offered) or 'none at all'}"
        )
    return offered[kind]


def load_checkpoint(source: str) -> dict:
    """Load a checkpoint from a path, a URL or ``timm://NAME``, running none of its code.

    Addresses of other kinds are left to mmengine, which is safe once
    :mod:`xcit_dense.mm.mmengine_patches` is imported.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: the file cannot be fetched, is damaged or would run code.
    """
    if source.startswith(TIMM):
        return load_from_timm(source)
    if source.startswith(("http://", "https://")):
        return load_from_http(source, "cpu")
    if "://" not in source:
        return load_from_local(source, "cpu")
    try:
        from mmengine.runner import CheckpointLoader  # here: all the rest does without
    except ImportError as error:
        raise UserError(
            f"{source}: only mmengine knows such addresses, and it is not installed (pip install "
            f"'xcit_dense[openmmlab]'); a path, http://, https:// and {TIMM} do without"
        ) from error
    return CheckpointLoader.load_checkpoint(source, "cpu")


def load_from_http(url: str, map_location: Any = None) -> dict:
    """Load a checkpoint from a URL, or from torch's cache where it has been fetched before.

    The first process of a run fetches it, then those of other machines, which find none.

    Raises:
        UserError: the file cannot be fetched, or cannot be used.
    """
    cached = os.path.join(torch.hub.get_dir(), "checkpoints", os.path.basename(urlparse(url).path))
    if distributed.is_initialized():
        if distributed.get_rank() == 0:
            _fetch(url, cached)
        distributed.barrier()
    is_new = _fetch(url, cached)
    try:
        return load_from_local(cached, map_location)
    except DamagedFileError as error:
        if is_new:
            os.remove(cached)
        raise UserError(
            f"{error}. It was fetched from {url}: remove it if it is there, and try again"
        ) from error


def _fetch(url: str, target: str) -> bool:
    """Fetch a file that is not there yet, to a temporary name first; tell whether it was new."""
    if os.path.exists(target):
        return False
    print(f"Downloading {url} to {target}", file=sys.stderr)
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        torch.hub.download_url_to_file(url, target, progress=sys.stderr.isatty())
    except OSError as error:
        raise UserError(
            f"{url}: cannot be fetched ({error}). Fetch it in another way and put it at {target}"
        ) from error
    return True


def load_from_timm(name: str, map_location: Any = None) -> dict[str, Tensor]:
    """Fetch pretrained weights through timm, which keeps them in its own cache.

    Args:
        name: ``timm://`` and the name of a pretrained model of timm, with or without its tag, for
            instance ``timm://xcit_small_12_p16_384.fb_dist_in1k``.
        map_location: device that the tensors go to.

    Returns:
        Tensors by timm's names.

    Raises:
        UserError: timm has no pretrained weights of that name, or cannot fetch them.
    """
    model_name = name.removeprefix(TIMM)
    if not timm.models.is_model_pretrained(model_name):
        known = timm.list_pretrained(exclude_filters="xcit_dense_*")  # those are our own
        close = get_close_matches(model_name, known, n=3)
        raise UserError(
            f"{name}: timm has no pretrained weights of that name; similar: {', '.join(close)} "
            "(timm.list_pretrained() lists all)"
        )
    try:
        model = timm.create_model(model_name, pretrained=True)
    except (OSError, RuntimeError) as error:
        raise UserError(f"{name}: timm cannot fetch the weights ({error})") from error
    return dict(model.to(map_location or "cpu").state_dict())
