"""Counting floating-point operations on a run of the real thing."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import conv_flop_count, flop_registry

_PRODUCTS = (torch.ops.aten.mm, torch.ops.aten.bmm)


def count_flops(function: Callable[[], Any]) -> tuple[int, Any]:
    """Run a function and count its matrix products and convolutions, forward and backward.

    A multiply-add counts 2. Elementwise operations, norms and pooling do not count.

    Returns:
        Floating-point operations, and what the function returned.
    """
    fused_attention = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one cannot see inside the fused one
    try:
        with _Counter() as counter:
            result = function()
    finally:
        torch.backends.mha.set_fastpath_enabled(fused_attention)
    return counter.flops, result


class _Counter(TorchDispatchMode):
    """Adds up torch's own formulas.

    torch's FlopCounterMode does the same for each module too; for that it hooks into backward, in
    a way that forbids autograd functions that compute gradients within their own backward.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        result = operation(*args, **(kwargs or {}))
        packet = operation.overloadpacket
        if packet is torch.ops.aten.convolution_backward:
            self.flops += _convolution_backward(*args, **(kwargs or {}))
        elif str(packet) == "mkldnn._linear_pointwise":
            tokens, weight = args[:2]
            self.flops += 2 * tokens.numel() * weight.shape[0]
        elif formula := flop_registry.get(packet):
            # Older formulas do not know the third argument of a product, the dtype of its result.
            operands = args[:2] if packet in _PRODUCTS else args
            self.flops += formula(*operands, **(kwargs or {}), out_val=result)
        return result


def _convolution_backward(
    grad: Tensor,
    image: Tensor,
    weight: Tensor,
    bias_sizes: list[int] | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
    output_mask: list[bool],
) -> int:
    """Each of the gradients of image and weight costs as much as the convolution itself.

    torch's own formula counts the weight's as if every channel met every other, which is wrong
    by a factor of the number of groups.
    """
    forward = conv_flop_count(image.shape, weight.shape, grad.shape, transposed)
    return forward * sum(output_mask[:2])
