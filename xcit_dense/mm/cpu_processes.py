"""Several processes on a machine without an accelerator."""

from typing import Any

import torch.distributed
from mmengine.logging import print_log
from mmengine.model import MMDistributedDataParallel, revert_sync_batchnorm
from mmengine.registry import MODEL_WRAPPERS
from torch import nn


@MODEL_WRAPPERS.register_module()
class CPUDistributedDataParallel(MMDistributedDataParallel):
    """mmengine's DistributedDataParallel, with batch norms that a CPU can compute.

    Args:
        module: the model, on the CPU; its SyncBN layers become BN layers.
        options: as in ``MMDistributedDataParallel``; ``device_ids`` has to be None.
    """

    def __init__(self, module: nn.Module, **options: Any) -> None:
        super().__init__(module=without_synced_norms(module), **options)


def join_cpu_processes() -> None:
    """Find the other processes by the variables that torchrun sets, and talk to them by gloo.

    mmengine would choose a GPU first, and fail where there is none.
    """
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo")


def without_synced_norms(model: nn.Module) -> nn.Module:
    """Make the SyncBN layers of a model BN layers and say so: torch has no SyncBN for CPUs."""
    synced = sum(isinstance(module, nn.SyncBatchNorm) for module in model.modules())
    if synced:
        print_log(
            f"No GPU, and SyncBN needs one: the {synced} SyncBN layers become BN layers, which "
            "normalize by the images of their own process only",
            logger="current",
        )
    return revert_sync_batchnorm(model)
