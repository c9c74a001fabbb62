"""Speaking once where several processes of a run have the same to say."""

import os
import sys

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
