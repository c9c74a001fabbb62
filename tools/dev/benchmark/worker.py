"""A process that does what it is asked, one request at a time, and may fail or die doing it."""

import multiprocessing
import signal
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

_SECONDS_TO_STOP = 10.0
_OUT_OF_MEMORY = ("out of memory", "allocate memory", "not enough memory", "bad_alloc")

_DONE, _OUT, _FAILED = "done", "out of memory", "failed"


class WorkerError(Exception):
    """A request got no answer; the text says why, short enough for a table."""


class WorkerOutOfMemory(WorkerError):
    """There was not enough memory; the worker lives on."""


class WorkerFailed(WorkerError):
    """The request raised another error; the worker lives on."""


class WorkerDied(WorkerError):
    """The process is gone."""


class Worker:
    """Starts a process, which makes an object and then calls the methods it is asked to call.

    The process starts at once, beside others; :meth:`wait_until_ready` waits for it.

    Args:
        make: makes the object; pickled, so importable in the process.
        arguments: of ``make``.
        seconds_to_answer: a request that takes longer ends the process; None waits forever.
    """

    def __init__(
        self, make: Callable[..., Any], *arguments: Any, seconds_to_answer: float | None = None
    ) -> None:
        # Not forked: a fork would share the parent's memory and cannot use CUDA.
        context = multiprocessing.get_context("spawn")
        self._seconds_to_answer = seconds_to_answer
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make, arguments), daemon=True)
        self._process.start()
        theirs.close()  # so that we see when the process is gone
        self._busy = True

    def wait_until_ready(self) -> None:
        """Wait until the object is made.

        Raises:
            WorkerError: it could not be made; the process is of no use.
        """
        self._receive()

    def ask(self, method: str, *arguments: Any) -> Any:
        """Call a method of the object and wait for what it returns.

        Raises:
            WorkerOutOfMemory: there was not enough memory.
            WorkerFailed: the method raised another error.
            WorkerDied: the process died, or gave no answer in time and was ended.
        """
        try:
            self._connection.send((method, arguments))
        except OSError:
            raise self._death() from None
        self._busy = True
        return self._receive()

    def stop(self) -> None:
        """End the process: kindly if it listens, at once if it is busy."""
        if not self._busy:
            with suppress(OSError):
                self._connection.send(None)
                self._process.join(_SECONDS_TO_STOP)
        self._process.kill()
        self._process.join()
        self._connection.close()

    def _receive(self) -> Any:
        try:
            if not self._connection.poll(self._seconds_to_answer):
                self._process.kill()
                raise WorkerDied(f"ended: no answer within {self._seconds_to_answer:.0f} s")
            kind, value = self._connection.recv()
            self._busy = False
        except (EOFError, OSError):
            raise self._death() from None
        if kind == _OUT:
            raise WorkerOutOfMemory("out of memory")
        if kind == _FAILED:
            raise WorkerFailed(f"failed: {value}")
        return value

    def _death(self) -> WorkerDied:
        self._process.join(_SECONDS_TO_STOP)
        code = self._process.exitcode
        if code is not None and code < 0:
            return WorkerDied(f"died (signal {-code})")
        return WorkerDied(f"died (exit code {code})")


def _serve(connection: Connection, make: Callable[..., Any], arguments: tuple) -> None:
    """The process: make the object, then answer until there is nobody to answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, who ends us
    made: list[Any] = []
    with suppress(EOFError, OSError):  # the parent is gone
        connection.send(_attempt(lambda: made.append(make(*arguments))))
        while made and (request := connection.recv()) is not None:
            method, arguments = request
            connection.send(_attempt(getattr(made[0], method), *arguments))


def _attempt(function: Callable[..., Any], *arguments: Any) -> tuple[str, Any]:
    try:
        return _DONE, function(*arguments)
    except Exception as error:
        # The error itself holds the frames, and they the tensors: only its text goes on.
        text = f"{type(error).__name__}: {error}"
        if isinstance(error, MemoryError) or any(sign in text.lower() for sign in _OUT_OF_MEMORY):
            return _OUT, text
        return _FAILED, text.splitlines()[0][:120]
