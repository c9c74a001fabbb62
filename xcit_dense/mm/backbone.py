"""The backbone that configs call ``XCiT``."""

import logging
from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any

from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import nn

from xcit_dense.backbone import Backbone, fit_state_dict
from xcit_dense.errors import UserError
from xcit_dense.mm.console import tell
from xcit_dense.network import STRIDES

_fit_state_dict = fit_state_dict  # whole models that were pickled before know it by this name


@MODELS.register_module()
class XCiT(Backbone, BaseModule):
    """Cross-Covariance Image Transformer (XCiT) with a feature pyramid of up to four levels.

    Source: XCiT paper (arXiv 2106.09681) and its release for dense tasks.

    Args:
        arch, patch_size, in_channels, out_indices, drop_path_rate, with_cp, attention, out_strides,
            contiguous_outputs: as for :class:`xcit_dense.backbone.Backbone`.
        norm_cfg: norm of the stem, of the local patch interaction and of the pyramid; for
            instance ``dict(type='SyncBN')``. The norms of the tokens are always LayerNorms.
        frozen_stages: -1 trains everything; 0 freezes the stem and the position encoding; k >= 1
            also the blocks of the first k pyramid levels. What is frozen stays in eval mode.
        init_cfg: mmengine's initialization. ``dict(type='Pretrained', checkpoint=PATH_OR_URL)``
            takes published files as they are, and ``timm://NAME``.

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
        out_strides: Sequence[int] = STRIDES,
        contiguous_outputs: bool = False,
    ) -> None:
        super().__init__(
            arch,
            patch_size,
            in_channels,
            out_indices,
            drop_path_rate,
            lambda num_features: build_norm_layer(norm_cfg, num_features)[1],
            with_cp,
            attention,
            out_strides,
            contiguous_outputs,
        )
        self.init_cfg = deepcopy(init_cfg)
        if not -1 <= frozen_stages <= len(self.strides):
            raise UserError(
                f"frozen_stages={frozen_stages}: must be -1 (none), 0 (stem) or 1 to "
                f"{len(self.strides)} (stem and that many stages)"
            )
        self.frozen_stages = frozen_stages
        for module in self._frozen_modules():
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> "XCiT":
        """Set training mode, apart from what is frozen."""
        super().train(mode)
        for module in self._frozen_modules():
            module.eval()
        return self

    def init_weights(self) -> None:
        """Initialize as ``init_cfg`` says.

        Raises:
            UserError: a pretrained checkpoint has no tensor of this backbone, or is of
                another network.
        """
        init_cfg = self.init_cfg
        if isinstance(init_cfg, dict) and init_cfg.get("type") == "Pretrained":
            self.load_pretrained(init_cfg["checkpoint"], init_cfg.get("prefix"))
            self._is_init = True
        else:
            super().init_weights()

    def _log(self, text: str, level: int = logging.INFO) -> None:
        """Say what was done with weights, in the log of the run."""
        tell(text, level)

    def _frozen_modules(self) -> Iterator[nn.Module]:
        if self.frozen_stages >= 0:
            yield self.trunk.patch_embedding
            yield self.trunk.position_encoding
        if self.frozen_stages >= 1:
            yield from self.trunk.blocks[: self.trunk.out_indices[self.frozen_stages - 1] + 1]
