"""What a contender does in its own process: it runs, and is measured."""

import ctypes
import gc
import re
import time
from pathlib import Path

import torch
from dev.benchmark.contenders import DTYPES, TRAINING, Contender
from torch import Tensor

_SLACK = 16 * 2**20  # bytes


class Runner:
    """Builds a contender with a fixed seed, and runs it in one mode and size after the other."""

    def __init__(
        self,
        contender: Contender,
        arch: str | dict,
        patch_size: int,
        device: str = "cpu",
        threads: int | None = None,
    ) -> None:
        torch.set_num_threads(threads or torch.get_num_threads())
        # fp32 is fp32: no product is rounded to TF32
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        torch.manual_seed(0)
        self.dtype, self.on_cuda = contender.dtype, device == "cuda"
        self.model = contender.build(arch, patch_size).to(device)

    def prepare(self, mode: str, height: int, width: int, images: int) -> int | None:
        """Run for the first times, and measure the peak memory beyond weights and image.

        On the CPU the whole process counts: nothing else may run in it meanwhile.

        Returns:
            Bytes; None where the system is not Linux or keeps no high-water mark.
        """
        self.model.train(mode == TRAINING)
        self.image = torch.randn(images, 3, height, width).to(next(self.model.parameters()).device)
        self._run()
        self.model.zero_grad(set_to_none=True)
        release_memory()
        if self.on_cuda:
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            self._run()
            return torch.cuda.max_memory_allocated() - before
        if not Path("/proc/self/clear_refs").exists():
            return None
        Path("/proc/self/clear_refs").write_text("5")  # lowers the high-water mark: man 5 proc
        before = process_memory("VmRSS")
        was_lowered = process_memory("VmHWM") < before + _SLACK  # some sandboxes ignore it
        self._run()
        return max(0, process_memory("VmHWM") - before) if was_lowered else None

    def time_run(self) -> float:
        """Seconds of one inference, or of one forward and backward pass without optimizer."""
        if self.on_cuda:
            self._run()  # fills the cache of device memory again, untimed
            torch.cuda.synchronize()
        start = time.perf_counter()
        levels = self._run()
        if self.on_cuda:
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
        del levels  # until here, as whoever uses them would hold them
        if self.on_cuda:
            torch.cuda.empty_cache()  # leaves the GPU's memory to the other processes
        return seconds

    def rest(self) -> None:
        """Let go of all memory but the weights."""
        del self.image
        self.model.zero_grad(set_to_none=True)
        release_memory()

    def _run(self) -> tuple[Tensor, ...]:
        model = self.model
        model.zero_grad(set_to_none=True)
        with torch.set_grad_enabled(model.training):
            device, is_low = self.image.device.type, self.dtype != "fp32"
            with torch.autocast(device, DTYPES[self.dtype], enabled=is_low):
                levels = tuple(model(self.image))
            if model.training:
                sum(level.float().square().mean() for level in levels).backward()
        return levels


def release_memory() -> None:
    """Give back what is free: garbage of Python, and free memory that glibc holds."""
    gc.collect()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def process_memory(field: str) -> int:
    """A memory field of this process's status in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"^{field}:\s*(\d+) kB$", status, re.MULTILINE)[1]) * 1024
