"""A contender on its way through the sizes of a mode."""

from typing import Any, Protocol

from dev.benchmark.budget import predicted_seconds
from dev.benchmark.contenders import Contender
from dev.benchmark.plan import Size
from dev.benchmark.results import Measurement
from dev.benchmark.worker import WorkerDied, WorkerError, WorkerOutOfMemory


class Asked(Protocol):
    """What a lane needs of a worker."""

    def wait_until_ready(self) -> None:
        """Wait until it can be asked."""

    def ask(self, method: str, *arguments: Any) -> Any:
        """Do something and give the answer."""

    def stop(self) -> None:
        """End."""


class Lane:
    """One contender, its worker, and whether it is still worth asking.

    Args:
        contender: whom this is about.
        worker: its process.

    Attributes:
        stopped: why no further size is tried; None while it goes on.
        current: the measurement at the present size.
        first_seconds: time of the first run at the present size that tells it.
    """

    def __init__(self, contender: Contender, worker: Asked) -> None:
        self.contender = contender
        self.worker = worker
        self.stopped: str | None = None
        self.current: Measurement | None = None
        self.first_seconds = 0.0
        self._history: list[tuple[int, float]] = []

    @property
    def running(self) -> bool:
        """Whether the present size is still being measured."""
        return self.current is not None and self.current.measured

    def wait_until_ready(self) -> None:
        """Wait for the worker; one that cannot build its contender is stopped."""
        try:
            self.worker.wait_until_ready()
        except WorkerError as error:
            self.stopped = str(error)

    def begin(self, measurement: Measurement, size: Size, seconds_per_run: float) -> None:
        """Go to the next size, if there is reason to."""
        self.current = measurement
        seconds = predicted_seconds(self._history, size.pixels)
        if self.stopped:
            measurement.status = self.stopped
        elif seconds is not None and seconds > seconds_per_run:
            measurement.status = (
                f"skipped: over budget ({seconds:.0f} s predicted, {seconds_per_run:g} s allowed)"
            )

    def ask(self, method: str, *arguments: Any) -> Any:
        """Ask the worker; an error becomes the status of the measurement.

        Returns:
            The answer, or None after an error.
        """
        try:
            return self.worker.ask(method, *arguments)
        except WorkerError as error:
            self.current.status = str(error)
            if isinstance(error, WorkerDied | WorkerOutOfMemory):
                self.stopped = f"not tried: {error} at {self.current.height}x{self.current.width}"
            if not isinstance(error, WorkerDied):
                self._release()
            return None

    def end(self) -> None:
        """Remember how long it took, and let the worker release what it can."""
        if self.running:
            self._history.append((self.current.pixels, self.current.median_seconds))
            self._release()

    def _release(self) -> None:
        try:
            self.worker.ask("release")
        except WorkerError as error:
            if isinstance(error, WorkerDied):
                size = f"{self.current.height}x{self.current.width}"
                self.stopped = f"not tried: {error} after {size}"
