"""A convolution and the norm after it, as one convolution where that is exact."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from xcit_dense.ops import Convolution, is_recorded

ConvolutionModule = nn.Conv2d | nn.ConvTranspose2d


def convolution_then_norm(
    convolution: ConvolutionModule, norm: nn.Module
) -> Callable[[Tensor], Tensor]:
    """The function ``norm(convolution(image))``, ready to be called several times.

    A batch norm with fixed statistics is a factor and a summand for each channel. Without
    gradients both go into the weights of the convolution, and the pass over the map is saved.
    """
    if is_recorded() or not is_local(norm):
        return lambda image: norm(convolution(image))
    weight, bias = folded_weights(convolution, norm)
    return lambda image: Convolution.of(convolution)(image, weight, bias)


def is_foldable(norm: nn.Module) -> bool:
    """Whether a norm does the same to every map: a batch norm in eval mode."""
    return isinstance(norm, _BatchNorm) and not norm.training and norm.track_running_stats


def is_local(norm: nn.Module) -> bool:
    """Whether a norm treats every place by itself, so that a map may come in pieces."""
    return isinstance(norm, nn.Identity) or is_foldable(norm)


def folded_weights(
    convolution: ConvolutionModule, norm: _BatchNorm | nn.Identity
) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of the convolution that computes ``norm(convolution(image))``."""
    if isinstance(norm, nn.Identity):
        return convolution.weight, convolution.bias
    factor = torch.rsqrt(norm.running_var + norm.eps)
    if norm.affine:
        factor = factor * norm.weight
    summand = -norm.running_mean * factor
    if norm.affine:
        summand = summand + norm.bias
    if convolution.bias is not None:
        summand = summand + convolution.bias * factor
    axis = 1 if isinstance(convolution, nn.ConvTranspose2d) else 0
    shape = [-1 if dim == axis else 1 for dim in range(4)]
    return convolution.weight * factor.view(shape), summand
