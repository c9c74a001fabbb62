"""The backbone as a plain module of torch, and building it with published weights."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from xcit_dense.engine import levels_by_engine
from xcit_dense.errors import UserError
from xcit_dense.network import STRIDES, Pyramid, Trunk, check_out_strides, resolve_arch
from xcit_dense.weights import (
    CheckpointIdentity,
    FittedTensors,
    backbone_prefix,
    compare,
    fit_tensors,
    load_checkpoint,
    unwrap_checkpoint,
)
from xcit_dense.weights.published_weights import published_url

_logger = logging.getLogger(__name__)
KINDS = "in1k_"


class Backbone(nn.Module):
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
        norm_layer: makes the norms of the stem, of the local patch interaction and of the pyramid
            from their number of channels. The norms of the tokens are always LayerNorms.
        with_cp: trade time for memory in training by computing each block again in backward.
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
        arch: str | Mapping[str, Any] = "small_12",
        patch_size: int = 16,
        in_channels: int = 3,
        out_indices: Sequence[int] | None = None,
        drop_path_rate: float = 0.0,
        norm_layer: Callable[[int], nn.Module] = nn.BatchNorm2d,
        with_cp: bool = False,
        attention: str = "auto",
        out_strides: Sequence[int] = STRIDES,
        contiguous_outputs: bool = False,
    ) -> None:
        super().__init__()
        self.strides = check_out_strides(out_strides)
        if not 0 <= drop_path_rate < 1:
            raise UserError(f"drop_path_rate={drop_path_rate}: must be in [0, 1)")
        size = resolve_arch(arch, out_indices, len(self.strides))
        self.trunk = Trunk(
            size, patch_size, in_channels, drop_path_rate, norm_layer, with_cp, attention
        )
        self.pyramid = Pyramid(size.embed_dims, patch_size, norm_layer, self.strides)
        self.patch_size = patch_size
        self.out_channels = (size.embed_dims,) * len(self.strides)
        self._size = size
        self.contiguous_outputs = contiguous_outputs
        self.register_load_state_dict_pre_hook(fit_state_dict)

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

    def fit(self, tensors: Mapping[str, Tensor]) -> FittedTensors:
        """Make published tensors ready for this backbone: names, image channels, what to omit.

        Args:
            tensors: tensors by published names or by ours, without a prefix.

        Raises:
            UserError: they are of another network.
        """
        identity = CheckpointIdentity.of(self._size, self.patch_size, self.trunk.in_channels)
        return fit_tensors(tensors, identity, num_blocks=len(self.trunk.blocks))

    def load_pretrained(self, source: str, prefix: str | None = None) -> None:
        """Fill this backbone from a checkpoint and log what it took.

        Args:
            source: as for :func:`xcit_dense.weights.load_checkpoint`.
            prefix: what stands before the names of the backbone in the checkpoint; None:
                ``backbone.`` where the checkpoint has that, else nothing.

        Raises:
            FileNotFoundError: there is no such file.
            UserError: the checkpoint is unusable, has no tensor of this backbone, or is of another
                network.
        """
        tensors = unwrap_checkpoint(load_checkpoint(source))
        if prefix is None:
            prefix = backbone_prefix(tensors)
        elif prefix and not prefix.endswith("."):
            prefix += "."
        mine = {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}
        try:
            fitted = self.fit(mine)
        except UserError as error:
            raise UserError(f"{source}: {error}") from error
        if others := len(tensors) - len(mine):
            fitted.notes.append(f"left out on purpose: {others} of the rest of the model")
        report = compare(self.state_dict(), fitted.state_dict)
        if not report.num_loaded or report.reshaped:
            raise UserError(
                f"{source}: does not fit the backbone: its keys begin with {sorted(tensors)[:3]}, "
                f"looked for those under {prefix!r}; {report}"
            )
        self.load_state_dict(fitted.state_dict, strict=False)
        # weights from ImageNet have no pyramid
        is_part = any(name.startswith("trunk.") for name in report.missing)
        level = logging.WARNING if is_part else logging.INFO
        self._log("\n  ".join([f"{source}: {report}", *fitted.notes]), level)

    def _log(self, text: str, level: int = logging.INFO) -> None:
        """Say what was done with weights."""
        _logger.log(level, text)


def fit_state_dict(backbone: Backbone, state_dict: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Let every way of loading a state dict, those of whole models too, take published tensors."""
    keys = [key for key in state_dict if key.startswith(prefix)]
    own = {prefix + name: tensor.shape for name, tensor in backbone.state_dict().items()}
    if own == {key: state_dict[key].shape for key in keys}:
        return
    fitted = backbone.fit({key.removeprefix(prefix): state_dict.pop(key) for key in keys})
    state_dict.update({prefix + name: tensor for name, tensor in fitted.state_dict.items()})
    for note in fitted.notes:
        backbone._log(f"{prefix.rstrip('.') or 'backbone'}: {note}")


def create_backbone(
    arch: str | Mapping[str, Any] = "small_12",
    patch_size: int = 16,
    weights: str | Path | None = None,
    in_channels: int = 3,
    **options: Any,
) -> Backbone:
    """Build a backbone, and fill it with published weights or those of a file.

    Args:
        arch: as for :class:`Backbone`.
        patch_size: 8 or 16.
        weights: a path, a URL, ``timm://NAME``, or ``in1k_`` and a kind of the release's ImageNet
            weights: ``in1k_224 in1k_224_dist in1k_384_dist in1k_dino``. Every published file is
            taken as it is, and checkpoints of detectors and segmentors with this backbone. What
            they lack, such as ImageNet's the pyramid, keeps its random values. None: all random.
        in_channels: channels of the image; the first convolution of weights is adapted.
        options: further keywords of :class:`Backbone`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a value out of its range, or weights that cannot be used.
    """
    backbone = Backbone(arch, patch_size, in_channels, **options)
    if weights is not None:
        source = str(weights)
        if source.startswith(KINDS) and not Path(source).suffix:
            try:
                source = published_url(source.removeprefix(KINDS), arch, patch_size)
            except UserError as error:
                raise UserError(f"weights={source!r}: {error}, each after {KINDS!r}") from error
        backbone.load_pretrained(source)
    return backbone
