"""Counting floating-point operations on a run of the real thing."""

from collections.abc import Callable
from typing import Any

import torch
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

    torch's FlopCounterMode hooks into backward too, in a way that forbids autograd functions that
    compute gradients within their own backward.
    """

    flops = 0

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        result = operation(*args, **(kwargs or {}))
        packet = operation.overloadpacket
        if packet is torch.ops.aten.convolution_backward:
            # torch's own formula takes every channel to meet every other, whatever the groups
            grad, image, weight, *_, transposed, _, _, wanted = args
            once = conv_flop_count(image.shape, weight.shape, grad.shape, transposed)
            self.flops += once * sum(wanted[:2])  # gradients of image and weight
        elif str(packet) == "mkldnn._linear_pointwise":
            tokens, weight = args[:2]
            self.flops += 2 * tokens.numel() * weight.shape[0]
        elif formula := flop_registry.get(packet):
            # Older formulas do not know the third argument of a product, the dtype of its result.
            operands = args[:2] if packet in _PRODUCTS else args
            self.flops += formula(*operands, **(kwargs or {}), out_val=result)
        return result
