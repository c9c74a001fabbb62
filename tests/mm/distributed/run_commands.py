"""Runs several commands of the tools in one of several processes: imports are slow.

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

from xcit_dense.cli import test as test_command
from xcit_dense.cli import train as train_command
from xcit_dense.cli.main import run

COMMANDS = {"train": train_command.main, "test": test_command.main}


@HOOKS.register_module(force=True)
class RunRecorder(Hook):
    """Leaves losses (means over processes) and what a process keeps in run.json."""

    def before_train(self, runner):
        self.losses = []
        self.share = share(list(runner.model.parameters()))

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        loss = torch.tensor(outputs["loss"].item(), dtype=torch.float64)
        all_reduce(loss, "mean")
        self.losses.append(loss.item())

    def after_train(self, runner):
        states = runner.optim_wrapper.optimizer.state.values()
        moments = [value for state in states for value in state.values() if value.ndim]
        record = {
            "loss": self.losses,
            "processes": get_world_size(),
            "share": self.share,
            "optimizer_share": share(moments),
        }
        if is_main_process():
            Path(runner.work_dir, "run.json").write_text(json.dumps(record))


def share(tensors):
    """The part of some tensors that this process keeps."""
    own = sum((t.to_local() if isinstance(t, DTensor) else t).nbytes for t in tensors)
    return own / sum(tensor.nbytes for tensor in tensors)


def main(argv=None):
    # only the layout of configs in logs and checkpoints, and a third of the time of these runs
    config.FormatCode = lambda text, **_: (text, False)
    for name, arguments in json.loads(sys.argv[1]):
        COMMANDS[name](arguments)


if __name__ == "__main__":
    run(main)
