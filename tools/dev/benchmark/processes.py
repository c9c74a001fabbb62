"""An object in a process of its own, which may fail or die without ending the run."""

import multiprocessing
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any


class ProcessError(Exception):
    """There is no answer; the text says why, short enough for a table."""


class OwnProcess:
    """Makes an object in a new process, beside what else starts, and calls its methods there.

    The process imports from ``checkout``, if there is one, before all else.
    """

    def __init__(self, make: Callable[[], Any], checkout: Path | None = None) -> None:
        # not forked: a fork would share this process's memory and cannot use CUDA
        self._pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        self._made = self._pool.submit(_make, make, checkout)

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the object, and wait for what it returns.

        Raises:
            ProcessError: it raised an error, the object could not be made, or the process is dead.
        """
        try:
            self._made.result()
            return self._pool.submit(_call, method, arguments).result()
        except BrokenProcessPool:
            raise ProcessError("died") from None
        except Exception as error:
            line = traceback.format_exception_only(error)[0].splitlines()[0]
            raise ProcessError(f"failed: {line[:120]}") from error

    def stop(self) -> None:
        """Let the process end as soon as it has done what it is at."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _make(make: Callable[[], Any], checkout: Path | None) -> None:
    global _object  # of this process
    if checkout is not None:
        sys.path.insert(0, str(checkout))
    _object = make()


def _call(method: str, arguments: tuple) -> Any:
    return getattr(_object, method)(*arguments)
