"""The floating-point precision that the served ops compute in."""

import torch
from torch import Tensor


def to_kernel_precision(reference: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
    """Casts all tensors to one dtype: float64 if `reference` has it, else float32.

    torchvision's kernels want all operands of one dtype, have no bfloat16 form, and some have no
    float16 form on a CPU.

    Args:
        reference: decides the dtype.
        *others: tensors of any shape and dtype.

    Returns:
        The tensors in the order given; those that have the dtype already are not copied.
    """
    dtype = torch.float64 if reference.dtype == torch.float64 else torch.float32
    return tuple(tensor.to(dtype) for tensor in (reference, *others))
