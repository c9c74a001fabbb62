"""The backbone that configs call ``XCiT``."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from xcit_dense.engine import levels_by_engine
from xcit_dense.errors import UserError
from xcit_dense.mm.console import tell
from xcit_dense.network import STRIDES, Pyramid, Trunk, check_out_strides, resolve_arch
from xcit_dense.weights import CheckpointIdentity, FittedTensors, fit_tensors


@MODELS.register_module()
class XCiT(BaseModule):
    """Cross-Covariance Image Transformer (XCiT) with a feature pyramid of up to four levels.

    Source: XCiT paper (arXiv 2106.09681) and its release for dense tasks.

    Args:
        arch: ``nano_12 tiny_12 tiny_24 small_12 small_24 medium_24 large_24``, or a dict with
            ``embed_dims, depth, num_heads, eta`` and optionally ``out_indices``.
        patch_size: 8 or 16.
        in_channels: channels of the image.
        out_indices: the blocks, counted from 0, after which the pyramid taps the trunk, one a
            level; None for those of the architecture, the last ones if there are fewer levels.
        drop_path_rate: probability with which a sample skips a branch in training.
        norm_cfg: norm of the stem, of the local patch interaction and of the pyramid; for
            instance ``dict(type='SyncBN')``. The norms of the tokens are always LayerNorms.
        frozen_stages: -1 trains everything; 0 freezes the stem and the position encoding; k >= 1
            also the blocks of the first k pyramid levels. What is frozen stays in eval mode.
        with_cp: trade time for memory in training by computing each block again in backward.
        init_cfg: mmengine's initialization. ``dict(type='Pretrained', checkpoint=PATH_OR_URL)``
            takes published files as they are, and ``timm://NAME``.
        attention: how cross-covariance attention is computed: ``direct`` as the paper writes it,
            ``gram`` from the covariance of the tokens, ``auto`` by what is faster for the size.
            All give the same result.
        out_strides: stride of each level: 1 to 4 of 4, 8, 16 and 32, from fine to coarse; one may
            repeat. A level that is not named has no weights: ``(8, 16, 32)`` for a neck that
            starts there, ``(8, 8)`` in the place of the last two stages of a dilated ResNet.
        contiguous_outputs: copy the maps from the channels-last memory format, in which they are
            made, to torch's plain one. Most heads take either; some ``view`` what they get.

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
        super().__init__(init_cfg)
        self.strides = check_out_strides(out_strides)
        if not -1 <= frozen_stages <= len(self.strides):
            raise UserError(
                f"frozen_stages={frozen_stages}: must be -1 (none), 0 (stem) or 1 to "
                f"{len(self.strides)} (stem and that many stages)"
            )
        if not 0 <= drop_path_rate < 1:
            raise UserError(f"drop_path_rate={drop_path_rate}: must be in [0, 1)")

        def norm_layer(num_features: int) -> nn.Module:
            return build_norm_layer(norm_cfg, num_features)[1]

        size = resolve_arch(arch, out_indices, len(self.strides))
        self.trunk = Trunk(
            size, patch_size, in_channels, drop_path_rate, norm_layer, with_cp, attention
        )
        self.pyramid = Pyramid(size.embed_dims, patch_size, norm_layer, self.strides)
        self.patch_size = patch_size
        self.out_channels = (size.embed_dims,) * len(self.strides)
        self._size = size
        self.frozen_stages = frozen_stages
        self.contiguous_outputs = contiguous_outputs
        for module in self._frozen_modules():
            module.requires_grad_(False)
        self.register_load_state_dict_pre_hook(_fit_state_dict)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Map an image (B, in_channels, H, W), any H and W, to a pyramid.

        Returns:
            (B, C, ceil(H / stride), ceil(W / stride)) for each of the strides.

        Raises:
            ValueError: the image has another shape or number of channels.
        """
        levels = levels_by_engine(self.trunk, self.pyramid, image)
        if levels is None:
            levels = self.pyramid(self.trunk(image), image.shape[-2:])
        if self.contiguous_outputs:
            levels = tuple(level.contiguous() for level in levels)
        return levels

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
            from xcit_dense.mm.loading import load_pretrained  # here: it imports this module

            load_pretrained(self, init_cfg["checkpoint"], init_cfg.get("prefix"))
            self._is_init = True
        else:
            super().init_weights()

    def fit(self, tensors: Mapping[str, Tensor]) -> FittedTensors:
        """Make published tensors ready for this backbone: names, image channels, what to omit.

        Args:
            tensors: tensors by published names or by ours, without a prefix.

        Raises:
            UserError: they are of another network.
        """
        identity = CheckpointIdentity.of(self._size, self.patch_size, self.trunk.in_channels)
        return fit_tensors(tensors, identity, num_blocks=len(self.trunk.blocks))

    def _frozen_modules(self) -> Iterator[nn.Module]:
        if self.frozen_stages >= 0:
            yield self.trunk.patch_embedding
            yield self.trunk.position_encoding
        if self.frozen_stages >= 1:
            yield from self.trunk.blocks[: self.trunk.out_indices[self.frozen_stages - 1] + 1]


def _fit_state_dict(backbone: XCiT, state_dict: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Let every way of loading a state dict, detectors' included, take published tensors."""
    keys = [key for key in state_dict if key.startswith(prefix)]
    own = {prefix + name: tensor.shape for name, tensor in backbone.state_dict().items()}
    if own == {key: state_dict[key].shape for key in keys}:
        return
    fitted = backbone.fit({key.removeprefix(prefix): state_dict.pop(key) for key in keys})
    state_dict.update({prefix + name: tensor for name, tensor in fitted.state_dict.items()})
    for note in fitted.notes:
        tell(f"{prefix.rstrip('.') or 'backbone'}: {note}")
