"""Mean and covariance of tokens: all that cross-covariance attention wants to know of them."""

import torch
from torch import Tensor

from xcit_dense.ops.chunks import rows_per_chunk
from xcit_dense.ops.linear import linear_of_each_image, sum_of_outer_products
from xcit_dense.ops.recompute import after_cheap
from xcit_dense.ops.recording import is_recorded
from xcit_dense.ops.token_norm import NoNorm, TokenNorm

# Tokens whose mean is taken off before anything is summed.
_SAMPLE = 256


def token_moments(tokens: Tensor, norm: TokenNorm | NoNorm) -> tuple[Tensor, Tensor]:
    """Mean and covariance of normed tokens, over the tokens of each image.

    Numerically a covariance is not the difference of a mean square and a squared mean: where
    tokens are nearly equal, that difference is all rounding error. So the mean of a sample is
    taken off first, which changes nothing but the error.

    Args:
        tokens: (B, N, C), before the norm.
        norm: the LayerNorm that comes first.

    Returns:
        The mean (B, C) and the covariance (B, C, C), the mean of (x - mean) (x - mean)^T; in
        float32, or float64 for float64.
    """
    if is_recorded():
        return after_cheap(norm, _MOMENTS, tokens, cheap_parameters=norm.parameters)
    size = rows_per_chunk(tokens.shape[-1], tokens.device)
    shift = _sample_mean(norm(_sample(tokens)))
    sums, grams = 0, 0
    for chunk in tokens.split(size, dim=1):
        shifted = _shifted(norm(chunk), shift)
        sums, grams = (
            sums + shifted.sum(1, dtype=shift.dtype),
            grams + sum_of_outer_products(shifted, shifted),
        )
    return _mean_and_covariance(sums, grams, shift, tokens.shape[1])


class _Moments:
    """Mean and covariance of all tokens at once, with their gradient."""

    def __call__(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        shift = _sample_mean(_sample(tokens))
        shifted = _shifted(tokens, shift)
        sums = shifted.sum(1, dtype=shift.dtype)
        return _mean_and_covariance(
            sums, sum_of_outer_products(shifted, shifted), shift, tokens.shape[1]
        )

    def backward(self, grads: tuple[Tensor, Tensor], tokens: Tensor) -> tuple[Tensor]:
        grad_mean, grad_covariance = grads
        shift = _sample_mean(_sample(tokens))
        shifted = _shifted(tokens, shift)
        offset = shifted.mean(1, dtype=shift.dtype)  # of the mean from the shift
        weight = (grad_covariance + grad_covariance.mT) / tokens.shape[1]
        bias = grad_mean / tokens.shape[1] - (weight * offset[:, None]).sum(-1)
        return (linear_of_each_image(shifted, weight, bias).to(tokens.dtype),)


_MOMENTS = _Moments()


def _mean_and_covariance(
    sums: Tensor, grams: Tensor, shift: Tensor, count: int
) -> tuple[Tensor, Tensor]:
    """From sums over tokens less ``shift`` (B, 1, C) to mean and covariance of the tokens."""
    offset = sums / count
    covariance = grams / count - offset[:, :, None] * offset[:, None, :]
    return shift[:, 0] + offset, covariance


def _sample(tokens: Tensor) -> Tensor:
    """At most ``_SAMPLE`` tokens of each image, evenly spread."""
    return tokens[:, :: -(-tokens.shape[1] // _SAMPLE)]


def _sample_mean(sample: Tensor) -> Tensor:
    """(B, n, C) -> (B, 1, C), at least in float32; a number to calculate with, no variable."""
    exact = torch.promote_types(sample.dtype, torch.float32)
    return sample.detach().mean(1, keepdim=True, dtype=exact)


def _shifted(tokens: Tensor, shift: Tensor) -> Tensor:
    """Tokens less the shift; on a GPU in the type of the matrix products, else exact."""
    shifted = tokens - shift
    if not tokens.is_cuda:
        return shifted
    if torch.is_autocast_enabled("cuda"):
        return shifted.to(torch.get_autocast_dtype("cuda"))
    return shifted.to(tokens.dtype)
