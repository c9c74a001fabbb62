"""Every way by which mmengine loads a checkpoint, made safe: files, URLs, stores, model zoos.

mmengine 0.10.7 loads files with torch's own protection, which refuses its own checkpoints, and
downloads without any. Its fork loads what was refused once more without protection. All of that
goes through three names of one module, ``mmengine.runner.checkpoint``, which are replaced here.
"""

import os.path
import sys
from typing import Any, BinaryIO
from urllib.parse import urlparse

import torch
from mmengine.runner import CheckpointLoader
from mmengine.runner import checkpoint as mmengine_checkpoint

from xcit_dense.errors import UserError
from xcit_dense.weights.checkpoint_error import DamagedCheckpointError
from xcit_dense.weights.safe_loading import (
    load_checkpoint_file,
    load_local_checkpoint,
)


def install() -> None:
    """Make ``load_from``, ``resume`` and ``init_cfg`` safe, for every scheme of mmengine."""
    CheckpointLoader.register_scheme(prefixes="", loader=load_from_local, force=True)
    mmengine_checkpoint.load_url = load_url
    mmengine_checkpoint.torch = _TorchThatLoadsSafely()
    if hasattr(mmengine_checkpoint, "_safe_torch_load"):  # only the fork has it
        mmengine_checkpoint._safe_torch_load = _load


def load_from_local(filename: str, map_location: Any = None) -> dict:
    """Load a local file for mmengine; see :func:`load_local_checkpoint`."""
    return _without_code(load_local_checkpoint(filename, map_location))


def load_url(
    url: str, model_dir: str | None = None, map_location: Any = None, progress: bool = True
) -> dict:
    """Load a checkpoint from a URL, or from torch's cache where it has been fetched before.

    Args:
        url: of a checkpoint file.
        model_dir: the cache; by default ``checkpoints`` in ``torch.hub.get_dir()``.
        map_location: as for :func:`load_local_checkpoint`.
        progress: whether to show a progress bar.

    Raises:
        UserError: the file cannot be fetched, or cannot be used.
    """
    folder = model_dir or os.path.join(torch.hub.get_dir(), "checkpoints")
    cached = os.path.join(folder, os.path.basename(urlparse(url).path))
    is_new = not os.path.exists(cached)
    if is_new:
        _download(url, cached, progress)
    try:
        return load_from_local(cached, map_location)
    except DamagedCheckpointError as error:
        if is_new:
            os.remove(cached)
            raise DamagedCheckpointError(f"{url}: fetched in part, try again ({error})") from error
        raise DamagedCheckpointError(
            f"{error}. It was once fetched from {url}: remove it, and it is fetched anew"
        ) from error


def _download(url: str, target: str, progress: bool) -> None:
    """Fetch a file to a temporary name and rename it; torch does that."""
    print(f"Downloading {url} to {target}", file=sys.stderr)
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        torch.hub.download_url_to_file(url, target, progress=progress)
    except OSError as error:
        raise UserError(
            f"{url}: cannot be fetched ({error}). Fetch it in another way and put it at {target}"
        ) from error


class _TorchThatLoadsSafely:
    """torch as mmengine's checkpoint module sees it: everything is the same but ``load``."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    @staticmethod
    def load(file: str | BinaryIO, map_location: Any = None) -> dict:
        return _load(file, map_location)


def _load(file: str | BinaryIO, map_location: Any = None) -> dict:
    """Load a path, or the content of a file that mmengine has fetched from a store."""
    if isinstance(file, (str, os.PathLike)):
        return load_from_local(os.fspath(file), map_location)
    return _without_code(load_checkpoint_file(file, map_location, "the fetched checkpoint"))


def _without_code(checkpoint: dict) -> dict:
    """Leave out a config in Python, as checkpoints before mmengine had it.

    On resuming, mmengine would run it to look for ``gpu_ids``, which no present config has.
    """
    meta = checkpoint.get("meta")
    if isinstance(meta, dict):
        meta.pop("config", None)
    return checkpoint
