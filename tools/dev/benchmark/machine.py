"""The machine: what it is called, and how fast it multiplies matrices and copies memory.

The rates bound what any network can reach here; a share of them says more than milliseconds.
"""

import os
import platform
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from dev.benchmark.process_memory import total_memory
from dev.benchmark.torch_settings import TORCH_DTYPES, TorchSettings

_SECONDS_A_PRODUCT = 0.5
_COPIED_BYTES = 2**30


@dataclass(frozen=True)
class GemmRates:
    """Rates of one square matrix product, in floating-point operations a second.

    Attributes:
        matmul: by ``torch.mm``.
        convolution: by a 1x1 convolution in channels-last, the same arithmetic. Libraries differ:
            on some CPUs only this one is near what the machine can do.
    """

    matmul: float
    convolution: float

    @property
    def fastest(self) -> float:
        """The rate that shares refer to."""
        return max(self.matmul, self.convolution)


def median_rates(measured: list[GemmRates]) -> GemmRates:
    """The median of each of the two rates over the measurements of a run."""
    return GemmRates(
        statistics.median(rates.matmul for rates in measured),
        statistics.median(rates.convolution for rates in measured),
    )


class MachineRunner:
    """Measures the machine; lives in a process of its own.

    Args:
        settings: of torch.
    """

    def __init__(self, settings: TorchSettings) -> None:
        settings.apply()
        self.settings = settings

    def describe(self) -> dict[str, str]:
        """Names of the hardware and of the software that matter for time."""
        described = {
            "CPU": f"{_cpu_name()}, {_cores()} cores, {(total_memory() or 0) / 2**30:.0f} GiB",
            "torch": f"{torch.__version__}, {torch.get_num_threads()} threads",
            "Python": platform.python_version(),
        }
        if self.settings.device == "cuda":
            device = torch.cuda.get_device_properties(0)
            convolutions = torch.backends.cudnn.allow_tf32
            products = torch.backends.cuda.matmul.allow_tf32
            described["GPU"] = f"{device.name}, {device.total_memory / 2**30:.0f} GiB"
            described["CUDA"] = f"{torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
            described["fp32 rounded to TF32"] = (
                f"convolutions {_yes_or_no(convolutions)}, matrix products {_yes_or_no(products)}"
            )
        return described

    def gemm_rates(self, dtype: str) -> GemmRates:
        """Measure a product as large as is reached within half a second."""
        wanted = 8192 if self.settings.device == "cuda" else 2048
        return GemmRates(
            self._rate(lambda width: self._matmul(width, TORCH_DTYPES[dtype]), wanted),
            self._rate(lambda width: self._convolution(width, TORCH_DTYPES[dtype]), wanted),
        )

    def bandwidth(self) -> float:
        """Bytes read and written a second by a copy of a large tensor."""
        seconds = self._fastest_of_some(self._copy())
        self.settings.release_memory()
        return 2 * _COPIED_BYTES / seconds

    def available_memory(self) -> int | None:
        """Bytes that a process can still get on the device; None if not known."""
        return self.settings.available_memory()

    def _rate(self, prepare: Callable[[int], Callable[[], object]], wanted: int) -> float:
        width = 256
        seconds = self._fastest_of_some(prepare(width))
        while width < wanted and 8 * seconds < _SECONDS_A_PRODUCT:
            width *= 2
            seconds = self._fastest_of_some(prepare(width))
        self.settings.release_memory()
        return 2 * width**3 / seconds

    def _copy(self) -> Callable[[], object]:
        source = torch.ones(_COPIED_BYTES, dtype=torch.uint8, device=self.settings.device)
        target = torch.empty_like(source)
        return lambda: target.copy_(source)

    def _matmul(self, width: int, dtype: torch.dtype) -> Callable[[], object]:
        left, right = torch.randn(2, width, width, device=self.settings.device).to(dtype)
        return lambda: torch.mm(left, right)

    def _convolution(self, width: int, dtype: torch.dtype) -> Callable[[], object]:
        height = 2 ** (width.bit_length() // 2)
        image = torch.randn(1, width, height, width // height, device=self.settings.device)
        weight = torch.randn(width, width, 1, 1, device=self.settings.device)
        image = image.to(dtype, memory_format=torch.channels_last)
        weight = weight.to(dtype, memory_format=torch.channels_last)
        return lambda: F.conv2d(image, weight)

    @torch.no_grad()
    def _fastest_of_some(self, function: Callable[[], object], repeats: int = 3) -> float:
        function()
        times = []
        for _ in range(repeats):
            self.settings.synchronize()
            start = time.perf_counter()
            function()
            self.settings.synchronize()
            times.append(time.perf_counter() - start)
        return min(times)


def _cpu_name() -> str:
    try:
        match = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        match = None
    return match[1] if match else platform.processor() or platform.machine()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _yes_or_no(value: bool) -> str:
    return "yes" if value else "no"
