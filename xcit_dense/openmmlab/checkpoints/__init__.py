"""Checkpoints: loading them without running code, writing them whole."""

from xcit_dense.atomic_files import write_atomically
from xcit_dense.openmmlab.checkpoints.atomic_checkpoint_hook import AtomicCheckpointHook
from xcit_dense.openmmlab.checkpoints.checkpoint_error import CheckpointError
from xcit_dense.openmmlab.checkpoints.safe_loading import load_local_checkpoint

__all__ = ["AtomicCheckpointHook", "CheckpointError", "load_local_checkpoint", "write_atomically"]
