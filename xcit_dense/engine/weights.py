"""The weights of a model that is what it was built as, read for the engine."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from xcit_dense import network
from xcit_dense.network.calling import is_untouched

_BATCH_NORMS = (nn.BatchNorm2d.forward, nn.SyncBatchNorm.forward)


class NotAsBuilt(Exception):
    """A part of the model may compute something else than the engine would."""


class Layer(NamedTuple):
    """Weight and bias of a linear layer or a convolution."""

    weight: Tensor
    bias: Tensor | None


class TokenNorm(NamedTuple):
    """The LayerNorm of tokens (..., C)."""

    weight: Tensor
    bias: Tensor
    eps: float

    def __call__(self, tokens: Tensor) -> Tensor:
        return F.layer_norm(tokens, self.weight.shape, self.weight, self.bias, self.eps)


class BlockWeights(NamedTuple):
    """What a block is made of; a layer scale is None where it is in the weights already."""

    attention_norm: TokenNorm
    projections: network.Projections
    temperature: Tensor
    attention_scale: Tensor | None
    interaction_norm: TokenNorm
    conv1: Layer
    affine: tuple[Tensor, Tensor] | None
    conv2: Layer
    interaction_scale: Tensor | None
    ffn_norm: TokenNorm
    fc1: Layer
    fc2: Layer
    ffn_scale: Tensor | None


def expect(module: nn.Module, kind: type[nn.Module], **settings: object) -> None:
    """Raise NotAsBuilt unless a module is an untouched one of a kind, with these settings."""
    if not is_untouched(module, kind):
        raise NotAsBuilt(f"{type(module).__name__} is not a {kind.__name__} as it was built")
    for name, value in settings.items():
        if getattr(module, name) != value:
            raise NotAsBuilt(f"{kind.__name__}: {name} is {getattr(module, name)}, not {value}")


def read_stem(stem: nn.Module) -> list[Layer]:
    """Convolutions with the norms behind them folded in."""
    expect(stem, network.ConvolutionalPatchEmbedding)
    for activation in list(stem)[1::2]:
        expect(activation, nn.GELU, approximate="none")
    layers = []
    for stage in stem.stages:
        expect(stage, nn.Sequential)
        convolution, norm = stage
        expect_convolution(convolution, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1))
        layers.append(fold(convolution, norm))
    return layers


def read_position(encoding: nn.Module) -> tuple[Layer, Layer]:
    """The projection of the codes of rows, and that of the codes of columns."""
    expect(encoding, network.FourierPositionEncoding)
    projection = encoding.projection
    expect_convolution(projection, kernel_size=(1, 1), stride=(1, 1), padding=(0, 0))
    of_rows, of_columns = projection.weight[:, :, 0, 0].split(encoding.num_frequencies, dim=1)
    return Layer(of_rows, None), Layer(of_columns, projection.bias)


def read_block(block: nn.Module) -> BlockWeights:
    """The weights of a block."""
    expect(block, network.Block)
    attention, interaction, ffn = block.attention, block.interaction, block.ffn
    expect(attention, network.CrossCovarianceAttention)
    if attention.form == "direct":
        raise NotAsBuilt("attention in the direct form is wanted")
    expect(interaction, network.LocalPatchInteraction)
    expect(ffn, network.FeedForward)
    expect(block.drop_path, DropPath, training=False)
    for dropout in (attention.attention_dropout, attention.projection_dropout):
        expect(dropout, nn.Dropout, training=False)
    attention_norm = _token_norm(block.attention_norm)
    same = dict(kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
    for convolution in (interaction.conv1, interaction.conv2):
        expect_convolution(convolution, groups=len(attention_norm.weight), **same)
    return BlockWeights(
        attention_norm=attention_norm,
        projections=network.Projections(*_linear(attention.qkv), *_linear(attention.projection)),
        temperature=attention.temperature,
        attention_scale=block.attention_layer_scale,
        interaction_norm=_token_norm(block.interaction_norm),
        conv1=Layer(interaction.conv1.weight, interaction.conv1.bias),
        affine=affine_of(interaction.norm),
        conv2=Layer(interaction.conv2.weight, interaction.conv2.bias),
        interaction_scale=block.interaction_layer_scale,
        ffn_norm=_token_norm(block.ffn_norm),
        fc1=_linear(ffn.fc1),
        fc2=_linear(ffn.fc2),
        ffn_scale=block.ffn_layer_scale,
    )


def read_level(level: nn.Module) -> list[Layer]:
    """The transposed convolutions of a level of the pyramid; none where it pools or keeps."""
    if isinstance(level, network.Upsample):
        expect(level, network.Upsample)
        for convolution in list(level)[::3]:
            expect(convolution, nn.ConvTranspose2d, kernel_size=(2, 2), stride=(2, 2))
            expect(convolution, nn.ConvTranspose2d, padding=(0, 0), groups=1)
        if len(level) == 1:
            return [Layer(level[0].weight, level[0].bias)]
        expect(level[2], nn.GELU, approximate="none")
        return [fold(level[0], level[1]), Layer(level[3].weight, level[3].bias)]
    if isinstance(level, nn.MaxPool2d):
        expect(level, nn.MaxPool2d, stride=level.kernel_size, padding=0, dilation=1, ceil_mode=True)
    else:
        expect(level, nn.Identity)
    return []


def expect_convolution(
    convolution: nn.Module,
    groups: int = 1,
    dilation: tuple[int, int] = (1, 1),
    **settings: object,
) -> None:
    """Raise NotAsBuilt unless this is an untouched convolution with these settings."""
    settings |= dict(groups=groups, dilation=dilation, padding_mode="zeros")
    expect(convolution, nn.Conv2d, **settings)


def affine_of(norm: nn.Module) -> tuple[Tensor, Tensor] | None:
    """Factor and summand (C,) that a batch norm with fixed statistics is; None for no norm."""
    if isinstance(norm, nn.Identity):
        expect(norm, nn.Identity)
        return None
    if not isinstance(norm, _BatchNorm) or type(norm).forward not in _BATCH_NORMS:
        raise NotAsBuilt(f"{type(norm).__name__} looks at the whole of a map")
    expect(norm, type(norm), training=False, track_running_stats=True)
    factor = torch.rsqrt(norm.running_var + norm.eps)
    if not norm.affine:
        return factor, -norm.running_mean * factor
    factor = factor * norm.weight
    return factor, norm.bias - norm.running_mean * factor


def fold(convolution: nn.Conv2d | nn.ConvTranspose2d, norm: nn.Module) -> Layer:
    """The convolution that computes ``norm(convolution(image))``."""
    weight, bias = convolution.weight, convolution.bias
    affine = affine_of(norm)
    if affine is None:
        return Layer(weight, bias)
    factor, summand = affine
    shape = (1, -1, 1, 1) if isinstance(convolution, nn.ConvTranspose2d) else (-1, 1, 1, 1)
    return Layer(
        weight * factor.view(shape),
        summand if bias is None else torch.addcmul(summand, bias, factor),
    )


def _linear(module: nn.Module) -> Layer:
    expect(module, nn.Linear)
    if module.bias is None:
        raise NotAsBuilt("a linear layer without bias")
    return Layer(module.weight, module.bias)


def _token_norm(norm: nn.Module) -> TokenNorm:
    expect(norm, nn.LayerNorm, elementwise_affine=True)
    return TokenNorm(norm.weight, norm.bias, norm.eps)
