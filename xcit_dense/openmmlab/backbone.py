"""The backbone that configs call ``XCiT``."""

from collections.abc import Iterator, Sequence
from typing import Any

from mmcv.cnn import build_norm_layer
from mmengine.logging import print_log
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from xcit_dense.models import STRIDES, Pyramid, Trunk, resolve_arch
from xcit_dense.models.checkpoint_keys import convert_state_dict, rename_key, unwrap_checkpoint
from xcit_dense.ops import pad_to_multiple


@MODELS.register_module()
class XCiT(BaseModule):
    """Cross-Covariance Image Transformer (XCiT) with a four-level feature pyramid.

    Source: XCiT paper (arXiv 2106.09681) and its release for dense tasks.

    Args:
        arch: ``nano_12 tiny_12 tiny_24 small_12 small_24 medium_24 large_24``, or a dict with
            ``embed_dims, depth, num_heads, eta`` and optionally ``out_indices``.
        patch_size: 8 or 16.
        in_channels: channels of the image.
        out_indices: the four blocks, counted from 0, after which the pyramid taps the trunk; None
            for those of the architecture.
        drop_path_rate: probability with which a sample skips a branch in training.
        norm_cfg: norm of the stem, of the local patch interaction and of the pyramid; for
            instance ``dict(type='SyncBN')``. The norms of the tokens are always LayerNorms.
        frozen_stages: -1 trains everything; 0 freezes the stem and the position encoding; k >= 1
            also the blocks of the first k pyramid levels. What is frozen stays in eval mode.
        with_cp: trade time for memory in training by computing each block again in backward.
        init_cfg: mmengine's initialization. ``dict(type='Pretrained', checkpoint=PATH_OR_URL)``
            takes published files as they are.
        attention: how cross-covariance attention is computed: ``direct`` as the paper writes it,
            ``gram`` from the covariance of the tokens, ``auto`` by what is faster for the size.
            All give the same result.

    Attributes:
        out_channels: channels of each level.
        strides: stride of each level, in pixels.

    Raises:
        ValueError: a value out of its range; the message names it and what is allowed.
    """

    def __init__(
        self,
        arch: str | dict = "small_12",
        patch_size: int = 16,
        in_channels: int = 3,
        out_indices: Sequence[int] | None = None,
        drop_path_rate: float = 0.0,
        norm_cfg: dict[str, Any] = dict(type="BN"),  # noqa: B006
        frozen_stages: int = -1,
        with_cp: bool = False,
        init_cfg: dict[str, Any] | None = None,
        attention: str = "auto",
    ) -> None:
        super().__init__(init_cfg)
        if not -1 <= frozen_stages <= len(STRIDES):
            raise ValueError(
                f"frozen_stages={frozen_stages}: must be -1 (none), 0 (stem) or 1 to "
                f"{len(STRIDES)} (stem and that many stages)"
            )
        if not 0 <= drop_path_rate < 1:
            raise ValueError(f"drop_path_rate={drop_path_rate}: must be in [0, 1)")

        def norm_layer(num_features: int) -> nn.Module:
            return build_norm_layer(norm_cfg, num_features)[1]

        size = resolve_arch(arch, out_indices)
        self.trunk = Trunk(
            size, patch_size, in_channels, drop_path_rate, norm_layer, with_cp, attention
        )
        self.pyramid = Pyramid(size.embed_dims, patch_size, norm_layer)
        self.patch_size = patch_size
        self.out_channels = (size.embed_dims,) * len(STRIDES)
        self.strides = STRIDES
        self.frozen_stages = frozen_stages
        for module in self._frozen_modules():
            module.requires_grad_(False)
        self._register_load_state_dict_pre_hook(_rename_published_keys)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Map an image (B, in_channels, H, W), any H and W, to a pyramid.

        Returns:
            (B, C, ceil(H / stride), ceil(W / stride)) for the strides 4, 8, 16 and 32.

        Raises:
            ValueError: the image has another shape or number of channels.
        """
        image_size = image.shape[-2:]
        image = pad_to_multiple(image, self.patch_size)
        return self.pyramid(self.trunk.taps(image), image_size)

    def train(self, mode: bool = True) -> "XCiT":
        """Set training mode, apart from what is frozen."""
        super().train(mode)
        for module in self._frozen_modules():
            module.eval()
        return self

    def init_weights(self) -> None:
        """Initialize as ``init_cfg`` says.

        Raises:
            ValueError: a pretrained checkpoint has no tensor of this backbone.
            RuntimeError: it has tensors of other shapes, so belongs to another architecture.
        """
        init_cfg = self.init_cfg
        if isinstance(init_cfg, dict) and init_cfg.get("type") == "Pretrained":
            self._load_pretrained(init_cfg["checkpoint"])
            self._is_init = True
        else:
            super().init_weights()

    def _load_pretrained(self, path_or_url: str) -> None:
        checkpoint = CheckpointLoader.load_checkpoint(path_or_url, "cpu", logger="current")
        state_dict = convert_state_dict(unwrap_checkpoint(checkpoint))
        matched = self.state_dict().keys() & state_dict.keys()
        if not matched:
            raise ValueError(
                f"{path_or_url} has no tensor of this backbone; its keys begin with "
                f"{sorted(state_dict)[:3]}"
            )
        missing, unexpected = self.load_state_dict(state_dict, strict=False)
        print_log(
            f"{path_or_url}: loaded {len(matched)} tensors of the backbone; "
            f"not in the file: {missing or 'none'}; not in the backbone: {unexpected or 'none'}",
            logger="current",
        )

    def _frozen_modules(self) -> Iterator[nn.Module]:
        if self.frozen_stages >= 0:
            yield self.trunk.patch_embedding
            yield self.trunk.position_encoding
        if self.frozen_stages >= 1:
            yield from self.trunk.blocks[: self.trunk.out_indices[self.frozen_stages - 1] + 1]


def _rename_published_keys(state_dict: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Let every way of loading a state dict, detectors' included, take published key names."""
    for key in [key for key in state_dict if key.startswith(prefix)]:
        ours = rename_key(key.removeprefix(prefix))
        tensor = state_dict.pop(key)
        if ours is not None:
            state_dict[prefix + ours] = tensor
