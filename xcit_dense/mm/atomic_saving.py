"""Every checkpoint that mmengine writes to a local disk is there whole or not at all."""

import os
import shutil
from pathlib import Path

from mmengine.fileio import LocalBackend, get_file_backend
from mmengine.runner import checkpoint as mmengine_checkpoint

from xcit_dense.atomic_files import write_atomically
from xcit_dense.weights.checkpoint_error import UnsavedCheckpointError


class AtomicLocalBackend(LocalBackend):
    """mmengine's local files, where a file that is put replaces the old one at once."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write a whole file.

        Args:
            obj: the content.
            filepath: the file to make or to replace.

        Raises:
            UnsavedCheckpointError: the disk is full, or the file cannot be written; what was
                there stays.
        """
        try:
            write_atomically(filepath, lambda file: file.write(obj))
        except OSError as error:
            free = shutil.disk_usage(_existing_folder(filepath)).free
            raise UnsavedCheckpointError(
                f"{filepath}: cannot be saved ({error.strerror or error}; needed "
                f"{len(obj) / 1e6:,.1f} MB, free {free / 1e6:,.1f} MB)"
            ) from error


def _existing_folder(path: str | Path) -> str:
    folder = os.path.dirname(os.path.abspath(path))
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return folder


def _checkpoint_backend(uri: str | Path | None = None, **arguments: object) -> object:
    """mmengine's ``get_file_backend``, with the atomic one in the place of the local one."""
    backend = get_file_backend(uri, **arguments)
    return AtomicLocalBackend() if type(backend) is LocalBackend else backend


def install() -> None:
    """Make mmengine's ``save_checkpoint`` atomic, whoever calls it: hooks, runners, strategies."""
    mmengine_checkpoint.get_file_backend = _checkpoint_backend
