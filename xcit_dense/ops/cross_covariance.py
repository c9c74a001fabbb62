"""Cross-covariance attention (XCA): attention between channels instead of tokens."""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from xcit_dense.ops.attention_form import FORMS, choose_form
from xcit_dense.ops.chunks import first_chunk, map_in_chunks
from xcit_dense.ops.linear import linear, linear_of_each_image
from xcit_dense.ops.prepared_linear import prepared_linear
from xcit_dense.ops.recompute import after_cheap
from xcit_dense.ops.recording import is_recorded
from xcit_dense.ops.token_moments import token_moments
from xcit_dense.ops.token_norm import NO_NORM, NoNorm, TokenNorm

# A query or key channel of a smaller norm than this over the tokens is taken to have this one, as
# torch.nn.functional.normalize does.
_SMALLEST_NORM = 1e-12


def cross_covariance_attention(
    tokens: Tensor,
    qkv_weight: Tensor,
    qkv_bias: Tensor,
    projection_weight: Tensor,
    projection_bias: Tensor,
    temperature: Tensor,
    norm: TokenNorm | NoNorm = NO_NORM,
    projection_scale: Tensor | None = None,
    dropout_p: float = 0.0,
    form: Literal["auto", "gram", "direct"] = "auto",
    finish: Callable[[Tensor, Tensor], Tensor] = lambda tokens, mixed: mixed,
    out: Tensor | None = None,
    whole: bool = False,
) -> Tensor:
    """Let the channels of each head attend to each other, in time linear in N.

    XCA(Q, K, V) = V softmax(K^T Q * temperature), with every channel of Q and K scaled to unit
    l2 norm over the tokens (XCiT paper, section 3.2). A head of width d has a d x d attention
    matrix, whatever the number of tokens. Before it the tokens are normed and projected to
    queries, keys and values, after it projected again.

    Both forms compute this. ``direct`` does as the formula says. ``gram`` never makes a query, key
    or value: Q and K enter the attention only by their products over all tokens, which follow
    from the mean and the covariance of the tokens; and the two projections with the attention
    between them are one C x C matrix.

    Args:
        tokens: (B, N, C).
        qkv_weight: (3 * C, C), queries first, then keys, then values; heads are consecutive.
        qkv_bias: (3 * C,).
        projection_weight: (C, C).
        projection_bias: (C,).
        temperature: learned scale of each head, (heads, 1, 1).
        norm: LayerNorm of the tokens that comes first, if any.
        projection_scale: (C,), factor of each channel of the result, if any.
        dropout_p: probability with which an entry of the attention matrix is zeroed.
        form: how it is computed; ``auto`` takes the one that :func:`choose_form` expects to be
            the faster.
        finish: makes of tokens (..., C), before the norm, and what attention has made of them,
            each token by itself, the result (..., C): a place for the residual.
        out: where the result may be put, ``tokens`` itself for one; without gradients only.
        whole: never work through the tokens in pieces.

    Returns:
        (B, N, C).

    Raises:
        ValueError: an unknown form.
    """
    if form == "auto":
        form = choose_form(
            tokens.shape[1], tokens.shape[2], len(temperature), torch.is_grad_enabled()
        )
    if form not in FORMS:
        raise ValueError(f"attention={form!r}: must be one of {', '.join(FORMS)}")
    projections = qkv_weight, qkv_bias, projection_weight, projection_bias, projection_scale
    if form == "direct":
        return finish(tokens, _direct(tokens, norm, *projections, temperature, dropout_p))
    weight, bias = _gram_mixing(tokens, norm, *projections, temperature, dropout_p)
    if whole or is_recorded() or tokens.is_cuda:
        mixed = after_cheap(
            norm, linear_of_each_image, tokens, weight, bias, cheap_parameters=norm.parameters
        )
        return finish(tokens, mixed)
    if out is None:
        out = torch.empty_like(tokens, memory_format=torch.contiguous_format)
    for index, image in enumerate(tokens.split(1)):
        of_image = weight[index].to(tokens.dtype), bias[index].to(tokens.dtype)
        mix = prepared_linear(*of_image, first_chunk(image, tokens.shape[2]))
        map_in_chunks(
            lambda tokens, mix=mix: finish(tokens, mix(norm(tokens))),
            image,
            tokens.shape[2],
            out=out[index : index + 1],
        )
    return out


def _direct(
    tokens: Tensor,
    norm: TokenNorm | NoNorm,
    qkv_weight: Tensor,
    qkv_bias: Tensor,
    projection_weight: Tensor,
    projection_bias: Tensor,
    projection_scale: Tensor | None,
    temperature: Tensor,
    dropout_p: float,
) -> Tensor:
    """The formula as it is written, (B, N, C) -> (B, N, C)."""
    qkv = after_cheap(norm, linear, tokens, qkv_weight, qkv_bias, cheap_parameters=norm.parameters)
    drop = _dropout_factors(tokens, len(temperature), dropout_p)

    def attend(qkv: Tensor) -> Tensor:
        heads = qkv.unflatten(-1, (3, len(temperature), -1))  # (B, N, 3, heads, d)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        query, key = F.normalize(query, dim=-2), F.normalize(key, dim=-2)
        cosines = query.transpose(-2, -1) @ key
        attention = _attention_matrix(cosines, temperature, drop)
        return (value @ attention.transpose(-2, -1)).transpose(1, 2).flatten(2)

    projection = projection_weight, projection_bias, projection_scale
    return after_cheap(attend, linear, qkv, *projection, cheap_parameters=[temperature])


def _gram_mixing(
    tokens: Tensor,
    norm: TokenNorm | NoNorm,
    qkv_weight: Tensor,
    qkv_bias: Tensor,
    projection_weight: Tensor,
    projection_bias: Tensor,
    projection_scale: Tensor | None,
    temperature: Tensor,
    dropout_p: float,
) -> tuple[Tensor, Tensor]:
    """The linear layer that attention is for the normed tokens of each image.

    Returns:
        Weights (B, C, C), projection . blockdiag(attention) . value projection, and biases (B, C).
    """
    channels, num_heads = tokens.shape[2], len(temperature)
    mean, covariance = token_moments(tokens, norm)
    exact = mean.dtype
    with torch.autocast(tokens.device.type, enabled=False):
        qk_weight, v_weight = qkv_weight.to(exact).tensor_split([2 * channels])
        qk_bias, v_bias = qkv_bias.to(exact).tensor_split([2 * channels])
        smallest_square = _SMALLEST_NORM**2 / tokens.shape[1]
        cosines = _cosines(mean, covariance, qk_weight, qk_bias, num_heads, smallest_square)
        drop = _dropout_factors(tokens, num_heads, dropout_p)
        attention = _attention_matrix(cosines, temperature.to(exact), drop)

        def after_attention(attention: Tensor) -> Tensor:
            projection = projection_weight
            if projection_scale is not None:
                projection = projection_scale[:, None] * projection
            projection = projection.to(exact).unflatten(1, (num_heads, -1)).transpose(0, 1)
            return (projection @ attention).transpose(1, 2).flatten(2)  # (B, C, C)

        read = (
            [projection_weight]
            if projection_scale is None
            else [projection_weight, projection_scale]
        )
        weight = after_cheap(after_attention, linear, attention, v_weight.T, cheap_parameters=read)
        bias = after_cheap(after_attention, linear, attention, v_bias[None], cheap_parameters=read)[
            ..., 0
        ]
        if projection_scale is not None:
            projection_bias = projection_scale * projection_bias
        bias = bias + projection_bias
    return weight, bias


def _cosines(
    mean: Tensor,
    covariance: Tensor,
    weight: Tensor,
    bias: Tensor,
    num_heads: int,
    smallest_square: float,
) -> Tensor:
    """Cosines between the queries' and the keys' channels, from the moments of the tokens.

    With q = Wq x + bq and k = Wk x + bk, the mean of q k^T over the tokens is
    Wq Cov Wk^T + E[q] E[k]^T, and the mean squares of the channels are the diagonals of the same
    form.

    Args:
        mean: (B, C).
        covariance: (B, C, C).
        weight: of queries and keys, (2 * C, C).
        bias: (2 * C,).
        num_heads: heads the channels are divided into.
        smallest_square: mean square that a channel is taken to have at least.

    Returns:
        (B, heads, d, d), queries' channels by keys' channels.
    """
    batch, channels = mean.shape
    # each image's covariance as a layer for the rows of the weight: W Cov, (B, 2 * C, C)
    spread = linear_of_each_image(weight.expand(batch, -1, -1), covariance)
    query_spread = spread[:, :channels].unflatten(1, (num_heads, -1))
    key_weight = weight[channels:].unflatten(0, (num_heads, -1))
    products = query_spread @ key_weight.mT  # (B, heads, d, d)
    # Between nearly equal tokens all cosines are nearly 1, and gradients are small differences of
    # large numbers: what is left is small enough to be calculated in float64.
    exact = torch.float32 if mean.device.type == "mps" else torch.float64
    means = (mean.to(exact)[:, None] * weight).sum(-1) + bias  # of queries and keys, (B, 2 * C)
    squares = (spread * weight).sum(-1, dtype=exact) + means.square()
    inverse_norms = squares.clamp_min(smallest_square).rsqrt().unflatten(1, (2, num_heads, -1))
    means = means.unflatten(1, (2, num_heads, -1))
    products = products.to(exact) + means[:, 0, :, :, None] * means[:, 1, :, None, :]
    cosines = products * inverse_norms[:, 0, :, :, None] * inverse_norms[:, 1, :, None, :]
    return cosines.to(mean.dtype)


def _dropout_factors(tokens: Tensor, num_heads: int, dropout_p: float) -> Tensor | None:
    """By what the attention matrices are multiplied, (B, heads, d, d), if there is dropout."""
    if not dropout_p:
        return None
    batch, _, channels = tokens.shape
    width = channels // num_heads
    return F.dropout(tokens.new_ones(batch, num_heads, width, width), dropout_p)


def _attention_matrix(cosines: Tensor, temperature: Tensor, drop: Tensor | None) -> Tensor:
    attention = (cosines * temperature).softmax(dim=-1)
    return attention if drop is None else attention * drop
