"""Loading checkpoints without running code that is hidden in them.

A pickle may name any function and have it called on loading. torch's ``weights_only`` refuses
that, and with it mmengine's own checkpoints, whose log history is no tensor. Here the few types
that mmengine writes are allowed by name and nothing else is. For numpy's arrays stand-ins are
called: a pickle that may call ``numpy.ndarray`` or set the state of a ``numpy.dtype`` can make an
array of objects over bytes of its choice, which numpy then takes for addresses.
"""

import math
import os.path
import pickle
import re
import zipfile
from collections.abc import Callable, Mapping
from functools import cache
from importlib.util import find_spec
from pkgutil import resolve_name
from typing import Any, BinaryIO

import numpy as np
import torch
from safetensors.torch import load as parse_safetensors
from torch import Tensor

from xcit_dense.errors import UserError

_NUMPY_CORES, _BUILTINS = ("core", "_core"), ("builtins", "__builtin__")
_OF_MMENGINE = (
    "mmengine.config.config.ConfigDict",
    "mmengine.logging.history_buffer.HistoryBuffer",
    "mmengine.optim.scheduler.param_scheduler.OneCycleParamScheduler",
)
_METHODS = {
    "HistoryBuffer": ("min", "max", "mean", "current"),
    "OneCycleParamScheduler": ("_annealing_cos", "_annealing_linear"),
}
_PLAIN_KINDS = "?biufcSU"  # no objects, no records; dates carry a state of their own
# what torch and the stand-ins say of a file that asks for more than tensors and plain values
_REFUSED = re.compile(r"(GLOBAL|Trying to call|Can only) .+|Cannot use .+(archives|format)")


class DamagedFileError(UserError):
    """A file is damaged, or no checkpoint at all."""


def load_from_local(filename: str, map_location: Any = None) -> dict:
    """Load a checkpoint of torch, mmengine or safetensors from a file, running none of its code.

    Args:
        filename: path; ``~`` is expanded.
        map_location: as for :func:`torch.load`; tensors of safetensors files go to the CPU unless
            it is a device.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedFileError: the file is damaged, or no checkpoint.
        UserError: it holds more than tensors and plain values, or cannot be read.
    """
    try:
        with open(os.path.expanduser(filename), "rb") as file:
            return load_checkpoint_file(file, map_location, str(filename))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{filename}: no such checkpoint file") from error
    except OSError as error:
        raise UserError(f"{filename}: cannot be read ({error.strerror or error})") from error


def unwrap_checkpoint(checkpoint: Mapping[str, Any]) -> Mapping[str, Tensor]:
    """The state dict in a checkpoint: under ``state_dict``, under ``model``, or the whole of it."""
    for name in ("state_dict", "model"):
        if isinstance(checkpoint.get(name), Mapping):
            return checkpoint[name]
    return checkpoint


def load_checkpoint_file(file: BinaryIO, map_location: Any, name: str) -> dict:
    """Load a checkpoint from an open file, running none of its code.

    A config in Python, which checkpoints older than mmengine have, is left out: on resuming,
    mmengine would run it.

    Args:
        file: open for reading, at its beginning.
        map_location: as for :func:`load_from_local`.
        name: what errors call the file.

    Raises:
        DamagedFileError: the file is damaged, or no checkpoint.
        UserError: it holds more than tensors and plain values.
    """
    try:
        content = _load(file, map_location)
    except (MemoryError, torch.OutOfMemoryError, OSError):
        raise
    except Exception as error:  # a damaged or hostile file can bring about any error
        if refused := _REFUSED.search(str(error)):
            raise UserError(
                f"{name}: refused, loading it could run code, since it holds more than tensors and "
                f"plain values ({refused[0]}). For a file that you trust see docs/safety.md"
            ) from error
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise DamagedFileError(f"{name}: damaged, or no checkpoint ({reason})") from error
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise DamagedFileError(f"{name}: no checkpoint; it holds a {kind}, wanted a dict")
    if isinstance(content.get("meta"), dict):
        content["meta"].pop("config", None)
    return content


def _load(file: BinaryIO, map_location: Any) -> Any:
    first = file.read(9)
    file.seek(0)
    if not first:
        raise ValueError("the file is empty")
    # safetensors: eight bytes with the length of the header, then the header, which is JSON
    if first[8:] == b"{":
        device = map_location if isinstance(map_location, (str, torch.device)) else "cpu"
        return {key: tensor.to(device) for key, tensor in parse_safetensors(file.read()).items()}
    if first.startswith(b"PK"):  # torch loads changed bytes in an archive silently
        with zipfile.ZipFile(file) as archive:
            if changed := archive.testzip():
                raise ValueError(f"{changed} in it is not what was written")
        file.seek(0)
    with torch.serialization.safe_globals(_allowed()):
        return torch.load(file, map_location=map_location, weights_only=True)


@cache
def _allowed() -> list[tuple[Any, str]]:
    """What a pickle may name, and what is called for it.

    By name, so that what a user has allowed stays allowed afterwards.
    """
    # the module of numpy's functions moved when numpy became 2, that of builtins with Python 3
    allowed = [
        (ArrayClass, "numpy.ndarray"),
        (PickledArray, "xcit_dense.PickledArray"),
        (PickledDtype, "numpy.dtype"),
        *((make_empty_array, f"numpy.{core}.multiarray._reconstruct") for core in _NUMPY_CORES),
        *((make_scalar, f"numpy.{core}.multiarray.scalar") for core in _NUMPY_CORES),
        *((bytes, f"{builtins}.bytes") for builtins in _BUILTINS),  # for those of length zero
    ]
    if find_spec("mmengine"):
        allowed += [(resolve_name(name), name) for name in _OF_MMENGINE]
        allowed += [(get_method, f"{builtins}.getattr") for builtins in _BUILTINS]
    return allowed


def get_method(owner: object, name: object) -> Callable:
    """Stand in for ``getattr``, by which methods are pickled that mmengine's objects keep."""
    if not isinstance(owner, type) or name not in _METHODS.get(owner.__name__, ()):
        raise pickle.UnpicklingError(f"GLOBAL getattr of {owner!r}, {name!r}")
    return getattr(owner, name)


class ArrayClass:
    """Stands for ``numpy.ndarray`` where a pickle only names it."""


class PickledDtype:
    """What a pickle makes of a ``numpy.dtype``: first its name, then its byte order.

    Args:
        name: such as ``'f8'`` or ``'U5'``.

    Raises:
        pickle.UnpicklingError: it is a dtype of objects, of records or of dates.
    """

    def __init__(self, name: str, *_: object) -> None:
        if not isinstance(name, str) or np.dtype(name).kind not in _PLAIN_KINDS:
            raise pickle.UnpicklingError(f"GLOBAL numpy.dtype({name!r})")
        self.dtype = np.dtype(name)

    def __setstate__(self, state: tuple) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class PickledArray(np.ndarray):
    """A numpy array that was read from a checkpoint; pickled again, it is a plain one."""

    def __new__(cls) -> "PickledArray":
        """An empty array, filled by :meth:`__setstate__`."""
        return super().__new__(cls, (0,), np.uint8)

    def __setstate__(self, state: tuple) -> None:
        version, shape, pickled_dtype, is_fortran, content = state
        dtype = _plain_dtype(pickled_dtype)
        if math.prod(shape) * dtype.itemsize != len(content):
            raise ValueError(f"an array of shape {shape} in {len(content)} bytes")
        super().__setstate__((version, shape, dtype, is_fortran, content))

    def __reduce__(self) -> tuple:
        return self.view(np.ndarray).__reduce__()


def make_empty_array(*_: object) -> PickledArray:
    """Stand in for numpy's ``_reconstruct``, by which its arrays are pickled."""
    return PickledArray()


def make_scalar(dtype: PickledDtype, content: bytes) -> np.generic:
    """Stand in for numpy's function ``scalar``, by which its scalars are pickled."""
    return np.ndarray((), _plain_dtype(dtype), content)[()]


def _plain_dtype(value: object) -> np.dtype:
    if not isinstance(value, PickledDtype):
        raise pickle.UnpicklingError(f"GLOBAL numpy array of {value!r}")
    return value.dtype
