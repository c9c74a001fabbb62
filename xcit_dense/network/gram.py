"""The gram form of cross-covariance attention: all from the moments of the tokens.

With X (N x C) the normed tokens, their mean m and covariance S (a gram matrix of centred tokens):

    q^T k / N = Wq S Wk^T + (Wq m + bq) (Wk m + bk)^T,

and the squared norms of the channels of q and k are the diagonals of the same form. So attention
follows from the moments, and what it does to the tokens is one C x C matrix with a bias,
proj . blockdiag(A) . Wv. No query, key or value is made. Moments of parts of an image add up to
those of the whole (Chan, Golub, LeVeque 1979, section 2).
"""

from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from xcit_dense.network.calling import (
    DILATION,
    as_pixels,
    convolve_tokens,
    goes_through_onednn,
)

# A channel of a query or key of a smaller norm over the tokens is taken to have this one, as
# torch.nn.functional.normalize does.
SMALLEST_NORM = 1e-12
_HAS_OUT_DTYPE = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 8)


class Moments(NamedTuple):
    """Mean and covariance of a set of tokens, at least in float32.

    Attributes:
        count: how many tokens, N.
        mean: (..., C).
        covariance: mean of (x - mean) (x - mean)^T over the tokens, (..., C, C).
    """

    count: int
    mean: Tensor
    covariance: Tensor

    @classmethod
    def of(cls, tokens: Tensor) -> "Moments":
        """The moments of tokens (..., N, C).

        The mean is taken off before anything is multiplied: where tokens are nearly equal, the
        difference of a mean square and a squared mean is all rounding error.
        """
        count = tokens.shape[-2]
        exact = torch.promote_types(tokens.dtype, torch.float32)
        mean = tokens.mean(-2, keepdim=True, dtype=exact)
        products = _gram(tokens - mean.to(tokens.dtype))
        if tokens.dtype != exact:  # the mean was rounded before it was taken off
            rest = mean - mean.to(tokens.dtype)
            return cls(count, mean[..., 0, :], products / count - rest.mT * rest)
        return cls(count, mean[..., 0, :], products / count)

    def merge(self, other: "Moments") -> "Moments":
        """The moments of both sets of tokens together."""
        count = self.count + other.count
        share = other.count / count
        apart = other.mean - self.mean
        covariance = torch.lerp(self.covariance, other.covariance, share)
        spread = apart[..., :, None] * apart[..., None, :]
        return Moments(
            count,
            self.mean + share * apart,
            torch.add(covariance, spread, alpha=share * (1 - share)),
        )

    def accumulate(self, tokens: Tensor) -> "Moments":
        """The moments of the set and tokens (..., N, C) together."""
        return self.merge(Moments.of(tokens))


class Projections(NamedTuple):
    """The linear layers before and after attention.

    Attributes:
        qkv_weight: (3 * C, C), queries first, then keys, then values; heads are consecutive.
        qkv_bias: (3 * C,).
        weight: of the projection after attention, (C, C).
        bias: (C,).
    """

    qkv_weight: Tensor
    qkv_bias: Tensor
    weight: Tensor
    bias: Tensor


def mixing(
    moments: Moments, weights: Projections, temperature: Tensor, dropout_p: float = 0.0
) -> tuple[Tensor, Tensor]:
    """The linear layer that attention is for tokens of these moments.

    Args:
        moments: of the normed tokens that are attended to, with batch axes (B, ...) or without.
        weights: the projections.
        temperature: scale of each head, (heads, 1, 1).
        dropout_p: probability with which an entry of the attention matrix is zeroed.

    Returns:
        Weight (..., C, C) and bias (..., C), in the type of the moments.
    """
    mean, covariance = moments.mean, moments.covariance
    channels, heads = mean.shape[-1], len(temperature)
    with _without_autocast(mean):
        qkv_weight, qkv_bias, weight, bias = (tensor.to(mean.dtype) for tensor in weights)
        qk_weight, value_weight = qkv_weight.split([2 * channels, channels])
        qk_bias, value_bias = qkv_bias.split([2 * channels, channels])
        key_weight = qk_weight[channels:].unflatten(0, (heads, -1))

        spread = _product(qk_weight, covariance)  # (..., 2 * C, C)
        means = F.linear(mean, qk_weight, qk_bias)  # of queries and keys, (..., 2 * C)
        squares = torch.addcmul((spread * qk_weight).sum(-1), means, means)
        norms = squares.clamp_min(SMALLEST_NORM**2 / moments.count).sqrt()
        of_query, of_key = means.unflatten(-1, (2, heads, -1)).unbind(-3)  # (..., heads, d)
        query_norm, key_norm = norms.unflatten(-1, (2, heads, -1)).unbind(-3)
        query_spread = spread[..., :channels, :].unflatten(-2, (heads, -1))
        products = query_spread @ key_weight.mT  # (..., heads, d, d)
        products = torch.addcmul(products, of_query[..., :, None], of_key[..., None, :])
        cosines = products / (query_norm[..., :, None] * key_norm[..., None, :])
        attention = (cosines * temperature.to(mean.dtype)).softmax(dim=-1)
        attention = F.dropout(attention, dropout_p, training=dropout_p > 0)
        mixed_values = attention @ value_weight.unflatten(0, (heads, -1))  # (..., heads, d, C)
        mixed_bias = attention @ value_bias.unflatten(0, (heads, -1, 1))
        return (
            _product(weight, mixed_values.flatten(-3, -2)),
            F.linear(mixed_bias.flatten(-3), weight, bias),
        )


def _without_autocast(tensor: Tensor) -> AbstractContextManager:
    if tensor.is_meta:  # which has no autocast
        return nullcontext()
    return torch.autocast(tensor.device.type, enabled=False)


def _product(left: Tensor, right: Tensor) -> Tensor:
    """left @ right, (M, C) times (..., C, C)."""
    if torch.is_grad_enabled() or right.ndim > 2 or not goes_through_onednn(left):
        return left.expand(*right.shape[:-2], -1, -1) @ right
    return convolve_tokens(left, right.mT)


def _gram(tokens: Tensor) -> Tensor:
    """Sum x x^T over tokens (..., N, C), in float32 whatever their type: (..., C, C).

    Over a million tokens the sum may leave the range of float16, and bfloat16 has no digits for it.
    """
    half, no_grad = tokens.dtype in (torch.float16, torch.bfloat16), not torch.is_grad_enabled()
    if half and no_grad and tokens.is_cuda and tokens.ndim == 3 and _HAS_OUT_DTYPE:
        return torch.bmm(tokens.mT, tokens, out_dtype=torch.float32)
    with _without_autocast(tokens):
        tokens = tokens.float() if half else tokens
        if tokens.ndim > 2 or not (no_grad and goes_through_onednn(tokens)):
            return tokens.mT @ tokens
        # the gradient of the weight of a 1x1 convolution
        pixels, channels = as_pixels(tokens), tokens.shape[-1]
        weight = tokens.new_empty(channels, channels, 1, 1)
        options = [1, 1], [0, 0], DILATION, False, [0, 0], 1, [False, True, False]
        gradients = torch.ops.aten.convolution_backward(pixels, pixels, weight, [0], *options)
        return gradients[1][:, :, 0, 0]
