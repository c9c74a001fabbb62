"""Counting floating-point operations of a prediction."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode


def count_flops(function: Callable[[], Any]) -> tuple[int, Any]:
    """Run a function without gradients, and count its matrix products and convolutions.

    A multiply-add counts 2. Elementwise operations, norms and pooling do not count.

    Returns:
        Floating-point operations, and what the function returned.
    """
    counter = FlopCounterMode(
        display=False, custom_mapping={torch.ops.mkldnn._linear_pointwise: _onednn_linear}
    )
    with torch.no_grad(), counter:
        result = function()
    return counter.get_total_flops(), result


def _onednn_linear(
    tokens: torch.Size, weight: torch.Size, *args: Any, out_shape: Any = None, **kwargs: Any
) -> int:
    return 2 * tokens.numel() * weight[0]
