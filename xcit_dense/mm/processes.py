"""Processes of one run: speaking once where several have the same to say, and parting."""

import gc
import os
import sys
import time

import torch.distributed


def say(text: str) -> None:
    """Print a line to the error stream, unless another process of the run has said the same."""
    if is_first_to_say(text):
        print(text, file=sys.stderr, flush=True)


def is_first_to_say(text: str) -> bool:
    """Whether no other process of the run has claimed this text; it is claimed then."""
    if not torch.distributed.is_initialized():
        return os.environ.get("LOCAL_RANK", "0") == "0"  # each machine may see other files
    try:
        store = torch.distributed.distributed_c10d._get_default_store()
        return store.add(f"said: {text}", 1) == 1
    except torch.distributed.DistError:  # the others are gone
        return True


def part() -> None:
    """Part from the other processes of the run, when all has gone well.

    A thread of gloo that still has a tensor of Python's to free when Python ends aborts the process
    ("terminate called without an active exception"). The threads end with their process group,
    which a model in ``DistributedDataParallel`` keeps alive until it is collected.
    """
    if torch.distributed.is_initialized():
        gc.collect()
        torch.distributed.destroy_process_group()
        # The group of a sharded model lives on: let its threads, which have nothing else to do,
        # free what they have. They need the interpreter for a few microseconds.
        time.sleep(0.1)
