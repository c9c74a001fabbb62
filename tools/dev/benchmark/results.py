"""What a run has found, as plain data that goes into a JSON file."""

import dataclasses
import json
import statistics
from dataclasses import dataclass, field
from typing import Any

from dev.benchmark.growth import SMALLEST_PIXELS, growth_exponent
from dev.benchmark.machine import GemmRates, median_rates

MEASURED = "measured"


@dataclass
class Measurement:
    """One contender in one mode at one image size.

    Attributes:
        mode: ``inference`` or ``training``.
        height: of the image, in pixels.
        width: of the image, in pixels.
        batch_size: number of images.
        contender: its label.
        dtype: ``fp32``, ``bf16`` or ``fp16``.
        status: ``measured``, or why there are no numbers.
        seconds: of each timed run, in the order of the runs.
        peak_bytes: most memory in use during a run, beyond what was in use before it.
        peak_method: how that was measured.
        kept_bytes: what forward keeps for backward; None for inference.
        output_bytes: of the pyramid itself.
        flops: floating-point operations of one run.
        difference: largest relative difference of a level from that of ``xcit_direct``.
    """

    mode: str
    height: int
    width: int
    batch_size: int
    contender: str
    dtype: str
    status: str = MEASURED
    seconds: list[float] = field(default_factory=list)
    peak_bytes: int | None = None
    peak_method: str | None = None
    kept_bytes: int | None = None
    output_bytes: int | None = None
    flops: int | None = None
    difference: float | None = None

    @property
    def measured(self) -> bool:
        """Whether there are numbers."""
        return self.status == MEASURED

    @property
    def median_seconds(self) -> float:
        """The median of the timed runs."""
        return statistics.median(self.seconds)

    @property
    def pixels(self) -> int:
        """Of one image."""
        return self.height * self.width


@dataclass
class Results:
    """Everything that a run has found so far.

    Attributes:
        command: the command line that makes it.
        reference: label of the contender that ratios refer to.
        machine: names of hardware and software.
        settings: what else was set, for people to read.
        gemm_rates: by dtype, every measurement of the run.
        bandwidth: bytes a second that a copy on the GPU reads and writes; None on the CPU.
        measurements: in the order in which they were made.
    """

    command: str
    reference: str
    machine: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    gemm_rates: dict[str, list[GemmRates]] = field(default_factory=dict)
    bandwidth: float | None = None
    measurements: list[Measurement] = field(default_factory=list)

    def gemm_rate(self, dtype: str) -> GemmRates | None:
        """Medians over the run; None where it could not be measured."""
        measured = self.gemm_rates.get(dtype)
        return median_rates(measured) if measured else None

    def of_mode(self, mode: str) -> list[Measurement]:
        """The measurements of a mode."""
        return [measurement for measurement in self.measurements if measurement.mode == mode]

    def reference_of(self, measurement: Measurement) -> Measurement | None:
        """What the reference measured in the same mode at the same size; None if it did not."""
        for other in self.of_mode(measurement.mode):
            same_size = (other.height, other.width) == (measurement.height, measurement.width)
            if other.contender == self.reference and same_size and other.measured:
                return other
        return None

    def growth(self, mode: str, contender: str) -> tuple[float | None, float | None]:
        """Exponents of time and of peak memory in the number of pixels, from 512x512 on."""
        large = [
            measurement
            for measurement in self.of_mode(mode)
            if measurement.contender == contender
            and measurement.measured
            and measurement.pixels >= SMALLEST_PIXELS
        ]
        return (
            growth_exponent([(m.pixels, m.median_seconds) for m in large]),
            growth_exponent([(m.pixels, m.peak_bytes) for m in large if m.peak_bytes]),
        )

    def as_json(self) -> str:
        """Everything, with the medians and the extremes of the times beside them."""
        content: dict[str, Any] = dataclasses.asdict(self)
        for measurement, entry in zip(self.measurements, content["measurements"], strict=True):
            if measurement.measured:
                entry["repeats"] = len(measurement.seconds)
                entry["median_seconds"] = measurement.median_seconds
                entry["fastest_seconds"] = min(measurement.seconds)
                entry["slowest_seconds"] = max(measurement.seconds)
        return json.dumps(content, indent=1) + "\n"
