"""numpy's arrays and scalars in checkpoints, without numpy's own unpickling.

A pickle that may call ``numpy.ndarray`` or set the state of a ``numpy.dtype`` can make an array of
objects over bytes of its choice, which numpy then takes for addresses. Here a pickle gives a plain
dtype and bytes of the right length, or it is refused.
"""

import math
import pickle
from typing import Any

import numpy as np

_PLAIN_KINDS = "?biufcSU"  # no objects, no records; dates carry a state of their own


class PickledDtype:
    """What a pickle makes of a ``numpy.dtype``: first its name, then its byte order.

    Args:
        name: such as ``'f8'`` or ``'U5'``.

    Raises:
        pickle.UnpicklingError: it is a dtype of objects, of records or of dates.
    """

    def __init__(self, name: str, *_: object) -> None:
        if not isinstance(name, str) or np.dtype(name).kind not in _PLAIN_KINDS:
            raise pickle.UnpicklingError(f"GLOBAL numpy.dtype({name!r}) is refused")
        self.dtype = np.dtype(name)

    def __setstate__(self, state: tuple) -> None:
        byte_order = state[1]
        self.dtype = self.dtype.newbyteorder(byte_order)


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

    def __array_finalize__(self, source: Any) -> None:
        """Nothing to hand on."""


def make_scalar(dtype: PickledDtype, content: bytes) -> np.generic:
    """Stand in for numpy's function of that name, by which its scalars are pickled."""
    return np.ndarray((), _plain_dtype(dtype), content)[()]


def make_empty_array(*_: object) -> PickledArray:
    """Stand in for numpy's ``_reconstruct``, by which its arrays are pickled."""
    return PickledArray()


def _plain_dtype(value: object) -> np.dtype:
    if not isinstance(value, PickledDtype):
        raise pickle.UnpicklingError(f"GLOBAL numpy array of {value!r} is refused")
    return value.dtype


class ArrayClass:
    """Stands for ``numpy.ndarray`` where a pickle only names it."""


# the module of the functions moved when numpy became 2
NUMPY_STAND_INS = [
    (ArrayClass, "numpy.ndarray"),
    (PickledArray, "xcit_dense.PickledArray"),
    (PickledDtype, "numpy.dtype"),
    *((make_empty_array, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
    *((make_scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
]
