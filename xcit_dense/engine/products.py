"""Linear layers that are called many times with the same weights."""

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from xcit_dense.engine.weights import Layer

# Elements of the widest tensor of a piece: 6 MB in float32 on a CPU, where it stays in the cache
# and the allocator hands the same memory out again; on a GPU enough to fill it.
_CPU_ELEMENTS = 1_600_000
_GPU_ELEMENTS = 64_000_000


def rows_per_piece(width: int, device: torch.device) -> int:
    """How many rows make a piece, if the widest tensor has ``width`` elements a row."""
    return max(1, (_CPU_ELEMENTS if device.type == "cpu" else _GPU_ELEMENTS) // width)


def scaled(layer: Layer, scale: Tensor | None) -> Layer:
    """The layer whose result is ``scale`` (C_out,) times that of ``layer``."""
    if scale is None:
        return layer
    shape = (-1,) + (1,) * (layer.weight.ndim - 1)
    return Layer(layer.weight * scale.view(shape), layer.bias * scale)


def packed_linear(
    layer: Layer, dtype: torch.dtype, gelu: bool = False
) -> Callable[[Tensor], Tensor]:
    """A linear layer, and GELU after it, ready to be called many times.

    oneDNN computes with weights in an order of its own. For one call torch brings them into it and
    forgets that again; here it is done once.

    Args:
        layer: weight (C_out, C_in) and bias (C_out,).
        dtype: that the product is computed in.
        gelu: whether GELU follows.

    Returns:
        A function from (M, C_in) to (M, C_out).
    """
    weight, bias = layer.weight.to(dtype).contiguous(), layer.bias.to(dtype)
    if weight.device.type == "cpu" and _packs(dtype):
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, None)
        name, algorithm = ("gelu", "none") if gelu else ("none", "")
        return lambda tokens: torch.ops.mkldnn._linear_pointwise(
            tokens.to(dtype), packed, bias, name, [], algorithm
        )
    if gelu:
        return lambda tokens: F.gelu(F.linear(tokens.to(dtype), weight, bias))
    return lambda tokens: F.linear(tokens.to(dtype), weight, bias)


@cache
def _packs(dtype: torch.dtype) -> bool:
    """Whether this torch has the operators of its compiler for that, and they compute it right.

    They are torch's own, but not promised to stay; without them all is the same, only slower.
    """
    tokens, weight, bias = (torch.ones(size, dtype=dtype) for size in ((4, 16), (32, 16), (32,)))
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, None)
        found = torch.ops.mkldnn._linear_pointwise(tokens, packed, bias, "gelu", [], "none")
    except (AttributeError, NotImplementedError, RuntimeError):
        return False
    return torch.allclose(found, F.gelu(F.linear(tokens, weight, bias)), rtol=2e-2)
