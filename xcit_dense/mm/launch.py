"""Starting as one of several processes, and the runner for them."""

import os
import sys

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import is_distributed, is_main_process
from mmengine.hooks import LoggerHook
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from xcit_dense.errors import UserError
from xcit_dense.mm.config import type_name, unsynchronize

# how processes are started, and what tells them their number: on their machine, and of all
LAUNCHERS = {
    "pytorch": ("torchrun --nproc-per-node N", "LOCAL_RANK", "RANK"),
    "slurm": ("srun --ntasks N --gres gpu:N python", "SLURM_LOCALID", "SLURM_PROCID"),
}
_COUNTS = {"pytorch": "WORLD_SIZE", "slurm": "SLURM_NTASKS"}


def processes_of(cfg: Config) -> int:
    """How many processes a config is run in."""
    return int(os.environ.get(_COUNTS.get(cfg.launcher, ""), 1))


def say(text: str) -> None:
    """Print a line to the error stream, in the first process of each machine."""
    if os.environ.get("LOCAL_RANK", "0") == "0":
        print(text, file=sys.stderr, flush=True)


def use_launcher(cfg: Config) -> None:
    """Fit a config to its launcher and to the hardware.

    Raises:
        UserError: the launcher does not fit the way in which this process was started, or the
            hardware; or the config asks for sharding, and for what sharding cannot do.
    """
    _check_sharding(cfg)
    if cfg.launcher == "none":
        processes = int(os.environ.get("WORLD_SIZE", "1"))
        if torch.distributed.is_torchelastic_launched() and processes > 1:
            raise UserError(
                f"torchrun has started {processes} processes, and each would do the whole work "
                "alone: add --launcher pytorch"
            )
        return
    command, local_rank, rank = LAUNCHERS[cfg.launcher]
    if rank not in os.environ:
        raise UserError(
            f"--launcher {cfg.launcher}: the launcher's variable {rank} is not set. Start with: "
            f"{command} tools/... --launcher {cfg.launcher}"
        )
    os.environ["LOCAL_RANK"] = os.environ[local_rank]  # what mmengine reads
    number, gpus = int(os.environ["LOCAL_RANK"]) + 1, torch.cuda.device_count()
    if get_device() == "cpu" and cfg.launcher == "pytorch":
        _use_cpus(cfg)
    elif get_device() in ("cpu", "cuda") and number > gpus:
        raise UserError(
            f"every process takes a GPU; this one is number {number} on its machine and sees "
            f"{gpus}: start fewer processes a machine, or let them see all of its GPUs"
        )


def build_runner(cfg: Config) -> Runner:
    """Join the other processes and build the runner that a config names."""
    if cfg.launcher == "pytorch" and get_device() == "cpu" and not is_distributed():
        torch.distributed.init_process_group("gloo")  # mmengine would choose a GPU first
    if cfg.get("strategy") is not None:
        cfg.setdefault("runner_type", "FlexibleRunner")
    return RUNNERS.build(cfg)


def log_in_one_process(runner: Runner) -> None:
    """Let only the main process log a test: mmengine's would all write one file of metrics."""
    if not is_main_process():
        runner.hooks[:] = [hook for hook in runner.hooks if not isinstance(hook, LoggerHook)]


def _check_sharding(cfg: Config) -> None:
    """Refuse early what sharding cannot do."""
    if type_name(cfg.get("strategy") or {}) != "FullyShardedStrategy":
        return
    if any(type_name(hook) == "EMAHook" for hook in cfg.get("custom_hooks") or []):
        raise UserError(
            "custom_hooks has an EMAHook, which keeps a copy of the whole model, and "
            "strategy.type='FullyShardedStrategy' divides the model: leave one of them out"
        )
    if cfg.launcher == "none":
        raise UserError(
            "strategy.type='FullyShardedStrategy' divides a model among processes, and this is a "
            "single one: start with torchrun, and --launcher pytorch"
        )


def _use_cpus(cfg: Config) -> None:
    """Name no GPU, and no norm that needs one."""
    cfg.model_wrapper_cfg = {
        "type": "MMDistributedDataParallel",
        "broadcast_buffers": False,
        "find_unused_parameters": cfg.get("find_unused_parameters", False),
        **(cfg.get("model_wrapper_cfg") or {}),
        "device_ids": None,
    }
    if unsynchronize(cfg.model) | bool(cfg.pop("sync_bn", None)):
        say("SyncBN needs GPUs: it becomes BN, which sees the images of its own process only")
