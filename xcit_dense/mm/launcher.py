"""Starting as one of several processes, and the runner for them."""

import os

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import is_main_process
from mmengine.hooks import LoggerHook
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from xcit_dense.errors import UserError
from xcit_dense.mm.config_tree import type_name
from xcit_dense.mm.cpu_processes import join_cpu_processes

# how processes are started
COMMANDS = {
    "pytorch": "torchrun --nproc-per-node N tools/... --launcher pytorch",
    "slurm": "srun --ntasks N --gres gpu:N python tools/... --launcher slurm",
    "mpi": "mpirun -n N -x MASTER_ADDR python tools/... --launcher mpi",
}

# what each launcher tells them; first their number on their own machine
VARIABLES = {
    "pytorch": ("LOCAL_RANK", "RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"),
    "slurm": ("SLURM_LOCALID", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_NODELIST"),
    "mpi": ("OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_RANK", "MASTER_ADDR"),
}


def use_launcher(cfg: Config) -> None:
    """Fit a config to its launcher and to the hardware; where there is no GPU, join the others.

    Raises:
        UserError: the launcher does not fit the way in which this process was started, or the
            hardware.
        UserError: the config asks for sharding, and for something that sharding cannot do.
    """
    _check_strategy(cfg)
    if cfg.launcher == "none":
        _check_alone()
        return
    _check_variables(cfg.launcher)
    os.environ["LOCAL_RANK"] = os.environ[VARIABLES[cfg.launcher][0]]  # what mmengine reads
    if get_device() == "cpu":
        _use_cpus(cfg)
    elif get_device() == "cuda":
        _check_gpus()


def evaluate_whole(cfg: Config) -> None:
    """Let every process evaluate with the whole model, also where training divides it."""
    if _is_sharded(cfg):
        cfg.pop("strategy")
        cfg.pop("runner_type", None)


def build_runner(cfg: Config) -> Runner:
    """Build the runner that a config names; a config with a ``strategy`` needs the flexible one."""
    if cfg.get("strategy") is not None:
        cfg.setdefault("runner_type", "FlexibleRunner")
    return RUNNERS.build(cfg)


def log_in_one_process(runner: Runner) -> None:
    """Let only the main process log a test: mmengine's would all write one file of metrics."""
    if not is_main_process():
        runner.hooks[:] = [hook for hook in runner.hooks if not isinstance(hook, LoggerHook)]


def _is_sharded(cfg: Config) -> bool:
    return type_name(cfg.get("strategy") or {}) == "FullyShardedStrategy"


def _check_strategy(cfg: Config) -> None:
    """Refuse early what sharding cannot do."""
    if _is_sharded(cfg) and any(
        type_name(hook) == "EMAHook" for hook in cfg.get("custom_hooks") or []
    ):
        raise UserError(
            "custom_hooks has an EMAHook, which keeps a copy of the whole model, and "
            "strategy.type='FullyShardedStrategy' divides the model: leave one of them out"
        )


def _check_alone() -> None:
    if "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(
            f"torchrun has started {os.environ['WORLD_SIZE']} processes, and each would do the "
            "whole work alone: add --launcher pytorch"
        )


def _check_variables(launcher: str) -> None:
    missing = [name for name in VARIABLES[launcher] if name not in os.environ]
    if missing:
        raise UserError(
            f"--launcher {launcher}: the launcher's variables {', '.join(missing)} are not set. "
            f"Start with: {COMMANDS[launcher]}"
        )


def _check_gpus() -> None:
    local_rank, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if local_rank >= gpus:
        raise UserError(
            f"every process takes a GPU; this one is number {local_rank + 1} on its machine and "
            f"sees {gpus}: start fewer processes a machine, or let them see all of its GPUs"
        )


def _use_cpus(cfg: Config) -> None:
    if cfg.launcher != "pytorch":
        raise UserError(
            f"--launcher {cfg.launcher}: no GPU was found; on CPUs only torchrun works: "
            f"{COMMANDS['pytorch']}"
        )
    cfg.merge_from_dict({"env_cfg.dist_cfg.backend": "gloo"})
    if cfg.get("strategy") or cfg.get("runner_type") == "FlexibleRunner":
        strategy = cfg.get("strategy") or {"type": "DDPStrategy"}
        if type_name(strategy) == "DDPStrategy":
            wrapper = _cpu_wrapper(cfg, strategy.get("model_wrapper"))
            cfg.strategy = {**strategy, "model_wrapper": wrapper}
    else:
        cfg.model_wrapper_cfg = _cpu_wrapper(cfg, cfg.get("model_wrapper_cfg"))
    join_cpu_processes()


def _cpu_wrapper(cfg: Config, wrapper: dict | None) -> dict:
    """What wraps the model, with mmengine's defaults where the config has no wishes of its own."""
    wrapper = {
        "type": "MMDistributedDataParallel",
        "broadcast_buffers": False,
        "find_unused_parameters": cfg.get("find_unused_parameters", False),
        **(wrapper or {}),
        "device_ids": None,
    }
    if type_name(wrapper) == "MMDistributedDataParallel":
        wrapper["type"] = "CPUDistributedDataParallel"
    return wrapper
