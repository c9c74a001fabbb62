"""The most memory that a function has in use, beyond what was in use before it."""

import ctypes
import gc
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

_SLACK = 16 * 2**20


def measure_peak_memory(function: Callable[[], Any], device: str = "cpu") -> tuple[int | None, Any]:
    """Run a function and measure its peak memory on the device.

    On the CPU the whole process counts: nothing else may run in it meanwhile.

    Returns:
        Bytes, None where the system is not Linux or keeps no such mark; what the function returned.
    """
    release_memory()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        result = function()
        return torch.cuda.max_memory_allocated() - before, result
    if not Path("/proc/self/clear_refs").exists():
        return None, function()
    Path("/proc/self/clear_refs").write_text("5")  # lowers the high-water mark: man 5 proc
    before = _status("VmRSS")
    was_lowered = _status("VmHWM") < before + _SLACK  # some sandboxes ignore it
    result = function()
    return max(0, _status("VmHWM") - before) if was_lowered else None, result


def release_memory() -> None:
    """Give back what is free: garbage of Python, and free memory that glibc holds."""
    gc.collect()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def _status(field: str) -> int:
    """A memory field of this process in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"^{field}:\s*(\d+) kB$", status, re.MULTILINE)[1]) * 1024
