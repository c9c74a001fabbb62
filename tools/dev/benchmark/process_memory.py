"""What Linux knows of this process's memory, and how to bound it."""

import ctypes
import gc
import re
from pathlib import Path

_STATUS = Path("/proc/self/status")


def read_status(field: str) -> int | None:
    """A memory field of this process, for instance ``VmRSS``, in bytes; None if not known."""
    return _read_kilobytes(_STATUS, field)


def total_memory() -> int | None:
    """Memory of the machine in bytes; None if not known."""
    return _read_kilobytes(Path("/proc/meminfo"), "MemTotal")


def available_memory() -> int | None:
    """Memory that programs can still get, in bytes, also within a container; None if not known."""
    available = [_read_kilobytes(Path("/proc/meminfo"), "MemAvailable"), _left_in_container()]
    return min((known for known in available if known is not None), default=None)


def release_memory() -> None:
    """Give back what is free: garbage of Python, and free memory that glibc holds."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return  # another C library: it has nothing of the kind


def limit_growth(size: int) -> bool:
    """Let allocations beyond this many bytes more than now fail, as an error in the program.

    Returns:
        Whether the system can do that.
    """
    data = read_status("VmData")
    if data is None:
        return False
    import resource

    # Not RLIMIT_AS: a CUDA build of torch maps gigabytes of address space that it never touches.
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = data + size
    soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
    return True


def _read_kilobytes(path: Path, field: str) -> int | None:
    try:
        match = re.search(rf"^{field}:\s*(\d+) kB$", path.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(match[1]) * 1024 if match else None


def _left_in_container() -> int | None:
    folder = Path("/sys/fs/cgroup")
    try:
        limit = int((folder / "memory.max").read_text())
        used = int((folder / "memory.current").read_text())
        statistics = dict(line.split() for line in (folder / "memory.stat").open())
    except (OSError, ValueError):  # no control group, or no limit ("max")
        return None
    return limit - used + int(statistics.get("inactive_file", 0))
