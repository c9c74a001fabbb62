"""Runs several commands of the tools in one process, or in one of several: imports are slow.

Usage: torchrun --nproc-per-node 2 run_commands.py '[["train", ["config.py", ...]], ...]'
"""

import json
import sys
from pathlib import Path

import torch
from mmengine.config import config
from mmengine.dist import all_reduce, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch.distributed.tensor import DTensor

import xcit_dense  # noqa: F401 - registers what the configs name
from xcit_dense.cli import test as test_command
from xcit_dense.cli import train as train_command
from xcit_dense.mm.launch import part

COMMANDS = {"train": train_command.main, "test": test_command.main}


@HOOKS.register_module(force=True)
class RunRecorder(Hook):
    """Leaves losses (means over processes), norms of gradients and memory in run.json."""

    def before_train(self, runner):
        local = sum(own(parameter).nbytes for parameter in runner.model.parameters())
        whole = sum(parameter.nbytes for parameter in runner.model.parameters())
        self.record = {"share": local / whole, "loss": [], "norm": []}

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        loss = torch.tensor(outputs["loss"].item(), dtype=torch.float64)
        all_reduce(loss, "mean")
        self.record["loss"].append(loss.item())
        norms = runner.message_hub.log_scalars.get("train/grad_norm")
        self.record["norm"].append(norms.current() if norms else None)

    def after_train(self, runner):
        moments = [
            value
            for state in runner.optim_wrapper.optimizer.state.values()
            for value in state.values()
            if value.ndim
        ]
        self.record["optimizer_share"] = sum(own(m).nbytes for m in moments) / sum(
            m.nbytes for m in moments
        )
        self.record["processes"] = get_world_size()
        if is_main_process():
            Path(runner.work_dir, "run.json").write_text(json.dumps(self.record))


@HOOKS.register_module(force=True)
class FailingProcess(Hook):
    """Lets the process of one rank fail in training, while the others go on."""

    def __init__(self, rank):
        self.rank = rank

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.rank == self.rank and runner.iter == 1:
            raise FileNotFoundError(f"process {self.rank} lost its data")


def own(tensor):
    """What this process keeps of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def main():
    # only the layout of configs in logs and checkpoints, and a third of the time of these runs
    config.FormatCode = lambda text, **_: (text, False)
    for name, arguments in json.loads(sys.argv[1]):
        COMMANDS[name](arguments)
    part()


if __name__ == "__main__":
    main()
