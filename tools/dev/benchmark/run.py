"""The run itself: contenders in processes of their own, asked in turn."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from dev.benchmark.contenders import Contender
from dev.benchmark.processes import OwnProcess, ProcessError
from dev.benchmark.runner import Runner
from tqdm import tqdm

MEASURED = "measured"


class Size(NamedTuple):
    """Height and width of images in pixels, and their number."""

    height: int
    width: int
    images: int = 1

    def __str__(self) -> str:
        return "x".join(map(str, self)).removesuffix("x1")


@dataclass
class Measurement:
    """One contender in one mode at one size."""

    mode: str
    size: Size
    contender: str
    status: str = MEASURED  # or why there are no numbers
    seconds: list[float] = field(default_factory=list)
    peak_bytes: int | None = None  # beyond weights and image

    @property
    def median(self) -> float | None:
        """Seconds of the timed runs; None before."""
        return statistics.median(self.seconds) if self.seconds else None


def run_benchmark(
    contenders: Sequence[Contender],
    jobs: Sequence[tuple[str, Size]],
    repeats: int,
    **settings: Any,
) -> Iterator[list[Measurement]]:
    """Do one job after the other with all contenders; only one computes at any time.

    Args:
        contenders: whom to measure.
        jobs: modes and sizes.
        repeats: timed runs of each contender at each size.
        settings: of every :class:`Runner`.

    Yields:
        The measurements of a job, one a contender.
    """
    processes = {
        contender.label: OwnProcess(partial(Runner, contender, **settings), contender.checkout)
        for contender in contenders
    }
    try:
        for mode, size in tqdm(jobs, "modes and sizes"):
            rows = [Measurement(mode, size, label) for label in processes]
            _measure(rows, processes, repeats)
            yield rows
    finally:
        for process in processes.values():
            process.stop()


def _measure(rows: list[Measurement], processes: Mapping[str, OwnProcess], repeats: int) -> None:
    def ask(row: Measurement, method: str, *arguments: Any) -> Any:
        """The answer; None from the first failure at this size on."""
        if row.status != MEASURED:
            return None
        try:
            return processes[row.contender].call(method, *arguments)
        except ProcessError as error:
            row.status = str(error)
            return None

    for row in rows:
        row.peak_bytes = ask(row, "prepare", row.mode, *row.size)
    for _ in range(repeats):
        for row in rows:
            seconds = ask(row, "time_run")
            if seconds is not None:
                row.seconds.append(seconds)
    for row in rows:
        ask(row, "rest")
