"""Linear layers that are applied to many pieces of an input in turn."""

from collections.abc import Callable
from functools import cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from xcit_dense.ops.linear import goes_through_onednn, linear

_ACTIVATIONS = {None: lambda result: result, "gelu": F.gelu}


def prepared_linear(
    weight: Tensor,
    bias: Tensor,
    tokens: Tensor,
    activation: Literal["gelu"] | None = None,
) -> Callable[[Tensor], Tensor]:
    """A linear layer, and an activation after it, ready to be called many times.

    oneDNN computes with weights in an order of its own. For one call torch brings them into it and
    forgets that again; here it is done once. With gradients it is an ordinary linear layer.

    Args:
        weight: (C_out, C_in).
        bias: (C_out,).
        tokens: of the type, on the device and about of the number of elements of the inputs.
        activation: what is applied to the result.

    Returns:
        A function from (..., C_in) to (..., C_out).
    """
    grad = torch.is_grad_enabled()
    if not grad and goes_through_onednn(tokens) and _has_packed_weights():
        rows = tokens.numel() // weight.shape[1]
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), rows)
        name, algorithm = ("none", "") if activation is None else (activation, "none")
        return lambda tokens: torch.ops.mkldnn._linear_pointwise(
            tokens, packed, bias, name, [], algorithm
        )
    activate = _ACTIVATIONS[activation]
    return lambda tokens: activate(linear(tokens, weight, bias))


@cache
def _has_packed_weights() -> bool:
    """Whether this torch has the operators of its compiler for that, and they compute it right.

    They are torch's own, but not promised to stay; without them all is the same, only slower.
    """
    tokens, weight, bias = torch.ones(4, 16), torch.ones(32, 16), torch.ones(32)
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, 4)
        found = torch.ops.mkldnn._linear_pointwise(tokens, packed, bias, "gelu", [], "none")
    except (AttributeError, NotImplementedError, RuntimeError):
        return False
    return torch.allclose(found, F.gelu(F.linear(tokens, weight, bias)))
