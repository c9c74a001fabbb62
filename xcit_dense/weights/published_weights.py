"""The ImageNet weights that the paper's release offers, from the model index beside this file."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

MODEL_INDEX = Path(__file__).with_name("imagenet_metafile.yml")

# those from which the release starts its detectors and segmentors
KIND_OF_THE_RELEASE = "384_dist"


@dataclass(frozen=True)
class PublishedWeights:
    """Weights of a backbone, trained on ImageNet-1k.

    Attributes:
        arch: name of the architecture, for instance ``small_12``.
        patch_size: 8 or 16.
        kind: how they were trained: ``224`` pixels, ``224_dist`` with distillation, ``384_dist``
            then fine-tuned at 384 pixels, ``dino`` without labels.
        url: where the file is.
    """

    arch: str
    patch_size: int
    kind: str
    url: str


@cache
def published_weights() -> tuple[PublishedWeights, ...]:
    """All of them, in the order of the release's page."""
    models = yaml.safe_load(MODEL_INDEX.read_text(encoding="utf-8"))["Models"]
    return tuple(map(_from_entry, models))


def _from_entry(entry: dict) -> PublishedWeights:
    arch, patch_size = entry["Metadata"]["Arch"], entry["Metadata"]["Patch Size"]
    kind = entry["Name"].removeprefix(f"xcit_{arch}_p{patch_size}_")
    return PublishedWeights(arch, patch_size, kind, entry["Weights"])


def published_kinds() -> list[str]:
    """Every kind that there is, for one backbone or another."""
    return list(dict.fromkeys(weights.kind for weights in published_weights()))


def published_url(kind: str, arch: str | Mapping, patch_size: int) -> str:
    """The URL of the published weights for a backbone.

    Raises:
        ValueError: there are none; says for which kinds or backbones there are.
    """
    if not isinstance(arch, str):
        raise ValueError("no weights are published for an arch of your own")
    offered = {
        weights.kind: weights.url
        for weights in published_weights()
        if (weights.arch, weights.patch_size) == (arch, patch_size)
    }
    if kind not in offered:
        raise ValueError(
            f"no weights {kind!r} are published for arch={arch!r}, patch_size={patch_size}; "
            f"there are {', '.join(offered) or 'none at all'}"
        )
    return offered[kind]
