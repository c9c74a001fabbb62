"""Loading checkpoints without running code that is hidden in them.

A pickle may name any function and have it called on loading. torch's ``weights_only`` refuses
that, and with it mmengine's own checkpoints, whose log history is no tensor. Here the few types
that mmengine writes are allowed by name and nothing else is.
"""

import os.path
import pickle
import re
from collections.abc import Callable
from typing import Any, BinaryIO

import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors

from xcit_dense.errors import UserError
from xcit_dense.weights.checkpoint_error import DamagedCheckpointError, UnsafeCheckpointError
from xcit_dense.weights.file_formats import FileFormat, check_archive, format_of
from xcit_dense.weights.pickled_numpy import NUMPY_STAND_INS

# The methods that mmengine's objects keep as attributes; a pickle names them through getattr.
_METHODS = {
    (HistoryBuffer, "min"): HistoryBuffer.min,
    (HistoryBuffer, "max"): HistoryBuffer.max,
    (HistoryBuffer, "mean"): HistoryBuffer.mean,
    (HistoryBuffer, "current"): HistoryBuffer.current,
    (OneCycleParamScheduler, "_annealing_cos"): OneCycleParamScheduler._annealing_cos,
    (OneCycleParamScheduler, "_annealing_linear"): OneCycleParamScheduler._annealing_linear,
}


def _method(owner: object, name: object) -> Callable:
    """Stand in for ``getattr``."""
    if not isinstance(owner, type) or (owner, name) not in _METHODS:
        raise pickle.UnpicklingError(f"GLOBAL getattr({owner!r}, {name!r}) is refused")
    return _METHODS[owner, name]


def _empty_bytes() -> bytes:
    """Stand in for ``bytes``, which a pickle calls for those of length zero."""
    return b""


# by name, so that leaving the list takes nothing away from what a user has allowed
ALLOWED_TYPES = [
    (HistoryBuffer, "mmengine.logging.history_buffer.HistoryBuffer"),
    (OneCycleParamScheduler, "mmengine.optim.scheduler.param_scheduler.OneCycleParamScheduler"),
    (_method, "builtins.getattr"),
    (_method, "__builtin__.getattr"),
    (_empty_bytes, "builtins.bytes"),
    (_empty_bytes, "__builtin__.bytes"),
    (ConfigDict, "mmengine.config.config.ConfigDict"),
    *NUMPY_STAND_INS,
]


def load_local_checkpoint(filename: str, map_location: Any = None) -> dict:
    """Load a checkpoint of torch, mmengine or safetensors from a file, running none of its code.

    Args:
        filename: path; ``~`` is expanded.
        map_location: as for :func:`torch.load`; tensors of safetensors files go to the CPU unless
            it is a device.

    Raises:
        FileNotFoundError: there is no such file.
        UnsafeCheckpointError: the file holds more than tensors and plain values.
        DamagedCheckpointError: the file is damaged, or no checkpoint.
        UserError: the file cannot be read.
    """
    path = os.path.expanduser(filename)
    try:
        with open(path, "rb") as file:
            return load_checkpoint_file(file, map_location, str(filename))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{filename}: no such checkpoint file") from error
    except OSError as error:
        raise UserError(f"{filename}: cannot be read ({error.strerror or error})") from error


def load_checkpoint_file(file: BinaryIO, map_location: Any, name: str) -> dict:
    """Load a checkpoint from an open file, running none of its code.

    Args:
        file: open for reading, at its beginning.
        map_location: as for :func:`load_local_checkpoint`.
        name: what errors call the file.

    Raises:
        UnsafeCheckpointError: the file holds more than tensors and plain values.
        DamagedCheckpointError: the file is damaged, or no checkpoint.
    """
    try:
        file_format = format_of(file)
        if file_format is FileFormat.SAFETENSORS:
            content = _load_safetensors(file, map_location)
        else:
            if file_format is FileFormat.ZIP:
                check_archive(file)
            with torch.serialization.safe_globals(ALLOWED_TYPES):
                content = torch.load(file, map_location=map_location, weights_only=True)
    except UserError as error:
        raise type(error)(f"{name}: {error}") from error
    except (MemoryError, torch.OutOfMemoryError, OSError):
        raise
    except Exception as error:  # a damaged or hostile file can bring about any error
        raise _explained(name, error) from error
    if not isinstance(content, dict):
        raise DamagedCheckpointError(
            f"{name}: no checkpoint; it holds a {type(content).__name__}, wanted a dict"
        )
    return content


def _load_safetensors(file: BinaryIO, map_location: Any) -> dict[str, torch.Tensor]:
    try:
        tensors = parse_safetensors(file.read())
    except SafetensorError as error:
        raise DamagedCheckpointError(f"damaged, or no safetensors file ({error})") from error
    device = map_location if isinstance(map_location, (str, torch.device)) else "cpu"
    return {name: tensor.to(device) for name, tensor in tensors.items()}


def _explained(name: str, error: Exception) -> UserError:
    """The error for a file that torch has not loaded."""
    text = str(error)
    if refused := re.search(r"GLOBAL ([\w.]*\w) was not an allowed", text):
        return UnsafeCheckpointError(
            f"{name}: refused, loading it could run code. It names {refused[1]}, which is no "
            f"tensor and no plain value. If you trust the file: {_way_to_allow(refused[1])} "
            "(docs/safety.md)"
        )
    if refused := re.search(r"GLOBAL (.+?) (?:whose module|is refused)", text):
        return UnsafeCheckpointError(
            f"{name}: refused, loading it could run code. It asks for {refused[1]}, which is never "
            "allowed; get the file from a source that you trust"
        )
    if refused := re.search(r"(?:Trying to call|Can only) .+", text):
        return UnsafeCheckpointError(f"{name}: refused, loading it could run code ({refused[0]})")
    if "legacy .tar format" in text:
        return UnsafeCheckpointError(
            f"{name}: refused, it is a .tar of a very old torch, which cannot be loaded without "
            "running its code. If you trust the file, write it anew: "
            "torch.save(torch.load(old, weights_only=False), new)"
        )
    reason = (text.strip().splitlines() or [type(error).__name__])[-1]
    return DamagedCheckpointError(f"{name}: damaged, or no checkpoint ({reason})")


def _way_to_allow(full_name: str) -> str:
    module, _, name = full_name.rpartition(".")
    importing = f"from {module} import {name}; " if module else ""
    return f"{importing}torch.serialization.add_safe_globals([{name}])"
