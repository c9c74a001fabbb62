"""Running a module without keeping its activations."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def run_checkpointed(module: nn.Module, *inputs: Any) -> Tensor:
    """Call ``module(*inputs)``, keep only the inputs and compute the rest again in backward.

    The result, the gradients and the running statistics of batch norms are those of a plain call:
    the second computation sees the same random numbers and leaves the statistics alone.
    """
    return checkpoint(
        module,
        *inputs,
        use_reentrant=False,
        context_fn=lambda: (nullcontext(), untracked_statistics(module)),
    )


@contextmanager
def untracked_statistics(module: nn.Module) -> Iterator[None]:
    """Keep batch norms from counting a batch that they have already counted."""
    tracking = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    before = [(norm.momentum, norm.num_batches_tracked.clone()) for norm in tracking]
    for norm in tracking:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, num_batches) in zip(tracking, before, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(num_batches)
