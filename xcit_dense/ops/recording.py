"""Whether operations are recorded at present, for a later use."""

import torch


def is_traced() -> bool:
    """Whether a compiler or a tracer records the operations for other inputs.

    Then routes that only one size or one device would take are left alone.
    """
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def is_recorded() -> bool:
    """Whether a compiler or a tracer records the operations, or autograd does for backward.

    Then everything is computed in one piece, and nothing is overwritten.
    """
    return torch.is_grad_enabled() or is_traced()
