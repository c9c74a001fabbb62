"""The errors of swapping."""

from collections.abc import Iterator
from contextlib import contextmanager

from xcit_dense.errors import UserError, in_one_line


class SwapError(UserError):
    """The backbone of this config can not be swapped, or it is not understood how.

    Says where in the config, as ``model.neck.in_channels``, and what is in the way there.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")


class BoundBackboneError(SwapError):
    """The model has nothing that another backbone could take the place of."""


@contextmanager
def located(path: str) -> Iterator[None]:
    """Name the place where a value of an unexpected kind stands, whatever it makes fail.

    Raises:
        SwapError: something inside has failed.
    """
    try:
        yield
    except SwapError:
        raise
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        reason = f"what stands there is not understood ({in_one_line(error)})"
        raise SwapError(path, reason) from error
