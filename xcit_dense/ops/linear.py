"""Linear layers on tokens, by the fastest route the device has."""

import torch
import torch.nn.functional as F
from torch import Tensor

from xcit_dense.ops.recording import is_traced

# Below this, torch computes a convolution without oneDNN.
_SMALLEST_FOR_ONEDNN = 20_480


class Linear:
    """A linear layer on tokens (..., C_in), as :func:`torch.nn.functional.linear` computes it.

    On a CPU in float32 the tokens pass as the pixels of a 1x1 convolution: the same sum, computed
    by oneDNN, which uses the widest instructions of any maker's CPU. torch's matrix product there
    is MKL's, which on other than Intel's CPUs reaches half of that rate.
    """

    def __call__(
        self,
        tokens: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        scale: Tensor | None = None,
    ) -> Tensor:
        """Map tokens (..., C_in) by weight (C_out, C_in) and bias (C_out,) to (..., C_out).

        A ``scale`` (C_out,) is a factor of each channel of the result.
        """
        weight, bias = _scaled(weight, bias, scale)
        if not goes_through_onednn(tokens):
            return F.linear(tokens, weight, bias)
        pixels = F.conv2d(_as_pixels(tokens), weight[:, :, None, None], bias)
        return _from_pixels(pixels, tokens.shape[:-1])

    def backward(
        self,
        grads: tuple[Tensor],
        tokens: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        scale: Tensor | None = None,
    ) -> tuple[Tensor | None, ...]:
        """The gradients of tokens, weight, bias and scale, each in its own type.

        The matrix products are computed in the type of ``grads``, the gradient of the result.
        """
        grad = grads[0].contiguous()
        inputs, matrix = tokens.to(grad.dtype), _scaled(weight, None, scale)[0].to(grad.dtype)
        if goes_through_onednn(inputs):
            found = _convolution_backward(grad, inputs, matrix)
        else:
            rows = grad.flatten(0, -2)
            found = grad @ matrix, rows.T @ inputs.flatten(0, -2), rows.sum(0)
        grad_tokens, grad_weight, grad_bias = found
        grad_scale = None
        if scale is not None:
            grad_scale = (grad_weight * weight).sum(1)
            grad_weight = scale[:, None] * grad_weight
            if bias is not None:
                grad_scale, grad_bias = grad_scale + grad_bias * bias, scale * grad_bias
            grad_scale = grad_scale.to(scale.dtype)
        return (
            grad_tokens.to(tokens.dtype),
            grad_weight.to(weight.dtype),
            None if bias is None else grad_bias.to(bias.dtype),
            grad_scale,
        )


def _scaled(
    weight: Tensor, bias: Tensor | None, scale: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    if scale is None:
        return weight, bias
    return scale[:, None] * weight, None if bias is None else scale * bias


class LinearOfEachImage:
    """A linear layer with a weight for each image of the batch."""

    def __call__(self, tokens: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Map tokens (B, N, C_in) by weights (B, C_out, C_in), biases (B, C_out) to (B, N, C_out).

        Computed in the type of the tokens.
        """
        weight = weight.to(tokens.dtype)
        bias = None if bias is None else bias.to(tokens.dtype)
        if goes_through_onednn(tokens):
            biases = [None] * len(tokens) if bias is None else bias
            return _stack([linear(*image) for image in zip(tokens, weight, biases, strict=True)])
        if bias is None:
            return tokens @ weight.mT
        return torch.baddbmm(bias[:, None], tokens, weight.mT)

    def backward(
        self, grads: tuple[Tensor], tokens: Tensor, weight: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients of tokens, weights and biases; the latter two summed in float32."""
        grad = grads[0].contiguous()
        inputs, matrices = tokens.to(grad.dtype), weight.to(grad.dtype)
        if goes_through_onednn(grad):
            pairs = zip(grad, matrices.mT, strict=True)
            grad_tokens = _stack([linear(image, matrix) for image, matrix in pairs])
        else:
            grad_tokens = grad @ matrices
        grad_weight = sum_of_outer_products(grad, inputs)
        grad_bias = grad.sum(1, dtype=grad_weight.dtype)
        return (
            grad_tokens.to(tokens.dtype),
            grad_weight.to(weight.dtype),
            grad_bias.to(bias.dtype),
        )


linear = Linear()
linear_of_each_image = LinearOfEachImage()


def sum_of_outer_products(left: Tensor, right: Tensor) -> Tensor:
    """Sum left right^T over the tokens: (B, N, C1) and (B, N, C2) -> (B, C1, C2).

    Summed and returned in float32 whatever the type of the tokens (in float64 for float64): over
    a million tokens the sum may leave the range of float16, and bfloat16 has no digits for it.
    """
    half = left.dtype in (torch.float16, torch.bfloat16)
    if half and left.is_cuda and _HAS_OUT_DTYPE:
        return torch.bmm(left.mT, right, out_dtype=torch.float32)
    exact = torch.promote_types(left.dtype, torch.float32)
    with torch.autocast(left.device.type, enabled=False):
        left, right = left.to(exact), right.to(exact)
        if goes_through_onednn(left):
            return _stack([_weight_gradient(*image) for image in zip(left, right, strict=True)])
        return left.mT @ right


_HAS_OUT_DTYPE = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 8)


def goes_through_onednn(tokens: Tensor) -> bool:
    """Whether a product with tokens (..., C) is left to oneDNN."""
    return (
        tokens.device.type == "cpu"
        and tokens.dtype == torch.float32
        and not is_traced()
        and tokens.numel() > _SMALLEST_FOR_ONEDNN
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.enabled
        and torch.backends.mkldnn.is_available()
    )


def _as_pixels(tokens: Tensor) -> Tensor:
    """View tokens (..., C) as an image (1, C, 1, M) of one row, in channels-last."""
    return tokens.contiguous().view(1, 1, -1, tokens.shape[-1]).permute(0, 3, 1, 2)


def _from_pixels(pixels: Tensor, shape: torch.Size) -> Tensor:
    """View an image (1, C, 1, M) as tokens (*shape, C)."""
    return pixels.permute(0, 2, 3, 1).reshape(*shape, -1)


def _convolution_backward(
    grad: Tensor, tokens: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    grad_pixels, grad_weight, grad_bias = torch.ops.aten.convolution_backward(
        _as_pixels(grad),
        _as_pixels(tokens),
        weight[:, :, None, None],
        bias_sizes=[weight.shape[0]],
        stride=[1, 1],
        padding=[0, 0],
        dilation=[1, 1],
        transposed=False,
        output_padding=[0, 0],
        groups=1,
        output_mask=[True, True, True],
    )
    return _from_pixels(grad_pixels, tokens.shape[:-1]), grad_weight[:, :, 0, 0], grad_bias


def _weight_gradient(grad: Tensor, tokens: Tensor) -> Tensor:
    """grad^T tokens, which is the weight's gradient of a 1x1 convolution."""
    size = (grad.shape[-1], tokens.shape[-1], 1, 1)
    return torch.nn.grad.conv2d_weight(_as_pixels(tokens), size, _as_pixels(grad))[:, :, 0, 0]


def _stack(images: list[Tensor]) -> Tensor:
    """Stack the results for the images of a batch, without a copy where there is only one."""
    return images[0][None] if len(images) == 1 else torch.stack(images)
