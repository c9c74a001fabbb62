"""The most memory that a function has in use, beyond what was in use before it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from dev.benchmark.process_memory import read_status, release_memory

_CLEAR_REFS = Path("/proc/self/clear_refs")
_RESET_HIGH_WATER_MARK = "5"  # man 5 proc
_SLACK = 16 * 2**20


@dataclass(frozen=True)
class PeakMemory:
    """A measurement.

    Attributes:
        bytes: the peak above what was in use before.
        method: how it was measured.
    """

    bytes: int
    method: str


def measure_peak_memory(function: Callable[[], Any], device: str = "cpu") -> tuple[PeakMemory, Any]:
    """Run a function and measure its peak memory on the device.

    On the CPU the whole process counts: nothing else may run in it meanwhile.

    Args:
        function: what to run.
        device: ``cpu`` or ``cuda``.

    Returns:
        The peak, and what the function returned.
    """
    release_memory()
    if device == "cuda":
        return _on_cuda(function)
    if _reset_high_water_mark():
        before = read_status("VmRSS")
        result = function()
        peak = read_status("VmHWM") - before
        return PeakMemory(max(0, peak), "high-water mark of the process"), result
    return _by_resource_usage(function)


def _on_cuda(function: Callable[[], Any]) -> tuple[PeakMemory, Any]:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    result = function()
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated() - before
    return PeakMemory(peak, "torch's CUDA allocator"), result


def _reset_high_water_mark() -> bool:
    try:
        _CLEAR_REFS.write_text(_RESET_HIGH_WATER_MARK)
    except OSError:
        return False
    high_water_mark, in_use = read_status("VmHWM"), read_status("VmRSS")
    if high_water_mark is None or in_use is None:
        return False
    return high_water_mark < in_use + _SLACK  # some sandboxes accept the reset and ignore it


def _by_resource_usage(function: Callable[[], Any]) -> tuple[PeakMemory, Any]:
    """The growth of the largest size ever: too small if the process was larger before."""
    import resource
    import sys

    unit = 1 if sys.platform == "darwin" else 1024

    def largest_ever() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

    before = largest_ever()
    result = function()
    method = "growth of the process's largest size (a lower bound: the mark cannot be reset)"
    return PeakMemory(largest_ever() - before, method), result
