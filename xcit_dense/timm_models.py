"""The backbones as models of timm, ``xcit_dense_small_12_p16`` and so on.

Importing this adds their names to timm's registry. They give features, as timm's models do with
``features_only=True``; there is no classifier.
"""

from collections.abc import Sequence
from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import (
    FeatureInfo,
    generate_default_cfgs,
    register_model,
    resolve_pretrained_cfg,
)
from torch import Tensor

from xcit_dense.backbone import KINDS, Backbone
from xcit_dense.errors import UserError
from xcit_dense.network import ARCHS, STRIDES
from xcit_dense.network.stem import PATCH_SIZES
from xcit_dense.weights.published_weights import KIND_OF_THE_RELEASE, published_urls


def _name(arch: str, patch_size: int) -> str:
    return f"xcit_dense_{arch}_p{patch_size}"


def _describe(kind: str, url: str) -> dict[str, Any]:
    side = 384 if kind.startswith("384") else 224
    return {
        "url": url,
        "input_size": (3, side, side),  # of training; any size will do
        "crop_pct": 1.0,
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "num_classes": 0,
        "first_conv": "trunk.patch_embedding.0.0",
        "license": "apache-2.0",
        "paper_ids": "arXiv:2106.09681",
        "origin_url": "https://github.com/facebookresearch/xcit",
    }


# timm reads this of a module in which models are registered; the star marks the first choice
default_cfgs = generate_default_cfgs(
    {
        f"{_name(arch, patch_size)}.{KINDS}{kind}{'*' * (kind == KIND_OF_THE_RELEASE)}": _describe(
            kind, url
        )
        for (arch, patch_size, kind), url in published_urls().items()
    }
)


class TimmFeatures(Backbone):
    """A backbone that looks as timm's models with ``features_only=True`` do.

    Attributes:
        feature_info: channels and reductions of the levels.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.register_load_state_dict_pre_hook(_keep_pyramid)

    def forward(self, image: Tensor) -> list[Tensor]:
        """As of any :class:`Backbone`, in a list."""
        return list(super().forward(image))


def _keep_pyramid(backbone: TimmFeatures, state_dict: dict, prefix: str, *_: Any) -> None:
    """Let timm's ``checkpoint_path``, which is strict, take weights that have no pyramid at all."""
    own = backbone.pyramid.state_dict(prefix=f"{prefix}pyramid.")
    if own.keys().isdisjoint(state_dict):
        state_dict.update(own)
        backbone._log("the pyramid is not in the checkpoint: it keeps its values")


def _create(
    arch: str,
    patch_size: int,
    pretrained: bool = False,
    pretrained_cfg: Any = None,
    pretrained_cfg_overlay: dict[str, Any] | None = None,
    cache_dir: Any = None,
    features_only: bool = False,
    in_chans: int = 3,
    out_indices: int | Sequence[int] | None = None,
    output_stride: int = STRIDES[-1],
    **options: Any,
) -> TimmFeatures:
    """Build a model of timm.

    Args:
        pretrained, pretrained_cfg, pretrained_cfg_overlay: as timm has them: whether to load
            weights, and which.
        cache_dir: is refused; weights are kept in torch's cache.
        features_only: must be true.
        in_chans: channels of the image.
        out_indices: which of the four levels, or how many, the coarsest ones; None for all.
        output_stride: of the coarsest level: 8, 16 or 32; levels that were coarser have it too.
        options: further keywords of :class:`Backbone`.

    Raises:
        ValueError: a value out of its range, or weights that cannot be used.
    """
    name, places = _name(arch, patch_size), range(len(STRIDES))
    if not features_only:
        raise UserError(
            f"{name} gives features and has no classifier: timm.create_model({name!r}, "
            "features_only=True); timm's own xcit_... models have one"
        )
    if cache_dir is not None:
        raise UserError(f"cache_dir={cache_dir}: weights are kept in torch's cache (TORCH_HOME)")
    if out_indices is None or isinstance(out_indices, int):
        out_indices = places if out_indices is None else range(-out_indices, 0)
    levels = [places[index] for index in out_indices if -len(places) <= index < len(places)]
    if not levels or levels != sorted(set(levels)) or len(levels) < len(out_indices):
        raise UserError(
            f"out_indices={tuple(out_indices)}: must be some of the levels {(*places,)}, in order"
        )
    strides = [min(stride, output_stride) for stride in STRIDES]
    model = TimmFeatures(
        arch,
        patch_size,
        in_chans,
        out_indices=[ARCHS[arch].out_indices[level] for level in levels],
        out_strides=[strides[level] for level in levels],
        **options,
    )
    modules = dict(zip(levels, model.pyramid.levels, strict=True))
    info = [
        {
            "num_chs": model.trunk.embed_dims,
            "reduction": strides[place],
            "module": f"pyramid.levels.{modules.get(place, place)}",
        }
        for place in places
    ]
    model.feature_info = FeatureInfo(info, tuple(levels))
    described = resolve_pretrained_cfg(name, pretrained_cfg, pretrained_cfg_overlay)
    model.pretrained_cfg = model.default_cfg = described.to_dict()
    if pretrained:
        if not (source := described.file or described.url):
            raise UserError(f"{name}: pretrained_cfg names no weights: no file, no url")
        model.load_pretrained(source)
    return model


def _register(arch: str, patch_size: int) -> None:
    def create(pretrained: bool = False, **options: Any) -> TimmFeatures:
        return _create(arch, patch_size, pretrained, **options)

    create.__name__ = create.__qualname__ = _name(arch, patch_size)
    create.__doc__ = f"XCiT {arch} with patches of {patch_size} pixels, and a pyramid."
    register_model(create)


for _arch in ARCHS:
    for _patch_size in PATCH_SIZES:
        _register(_arch, _patch_size)
