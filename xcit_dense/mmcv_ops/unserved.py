"""Stubs for the mmcv ops that have no stand-in: they exist, and explain themselves when called."""

from collections.abc import Callable
from typing import NoReturn

from xcit_dense.mmcv_ops.served import SERVED_OPS

_MESSAGE = (
    "The mmcv op '{name}' is not available: "
    "mmcv was installed without its compiled ops (mmcv-lite). "
    "xcit_dense serves only these in their place: {served}. "
    "For the others, install a full mmcv wheel that matches your torch and CUDA "
    "(pip install -U openmim && mim install mmcv), "
    "or build mmcv from source with MMCV_WITH_OPS=1."
)


def missing_op_error(name: str) -> NotImplementedError:
    """Builds the error that names the missing op, the served ones, and the way to get the rest."""
    return NotImplementedError(_MESSAGE.format(name=name, served=", ".join(SERVED_OPS)))


def unserved_op(name: str) -> Callable[..., NoReturn]:
    """Makes the stub of an op; serves as the `__getattr__` of the stand-in module.

    mmcv looks up all its ops while `mmcv.ops` is imported, so a lookup has to succeed.

    Raises:
        AttributeError: for dunder names, which Python's own machinery probes for.
    """
    if name.startswith("__") and name.endswith("__"):
        raise AttributeError(f"module 'mmcv._ext' has no attribute '{name}'")

    def stub(*args: object, **kwargs: object) -> NoReturn:
        raise missing_op_error(name)

    stub.__name__ = stub.__qualname__ = name
    return stub
