"""How torch is set up in every process of a run, and what differs between CPU and CUDA."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from dev.benchmark import process_memory

TORCH_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class TorchSettings:
    """Settings of one run.

    Attributes:
        device: ``cpu`` or ``cuda``.
        threads: of torch on the CPU; None leaves torch's choice.
        tf32: whether fp32 products on CUDA may be rounded to TF32; None leaves torch's choice.
    """

    device: str = "cpu"
    threads: int | None = None
    tf32: bool | None = None

    def apply(self) -> None:
        """Set up this process."""
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        if self.tf32 is not None:
            torch.backends.cuda.matmul.allow_tf32 = self.tf32
            torch.backends.cudnn.allow_tf32 = self.tf32

    def synchronize(self) -> None:
        """Wait until the device has done what it was asked."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def autocast(self, dtype: str) -> AbstractContextManager:
        """Where ``dtype`` is ``bf16`` or ``fp16``: torch's automatic mixed precision."""
        if dtype == "fp32":
            return nullcontext()
        return torch.autocast(self.device, TORCH_DTYPES[dtype])

    def release_memory(self) -> None:
        """Give back what is free, for the other processes."""
        process_memory.release_memory()
        if self.device == "cuda":
            torch.cuda.empty_cache()

    def available_memory(self) -> int | None:
        """Bytes that a process can still get on the device; None if not known."""
        if self.device == "cuda":
            return torch.cuda.mem_get_info()[0]
        return process_memory.available_memory()

    def limit_memory(self, size: int) -> bool:
        """Let allocations on the device beyond ``size`` bytes more than now fail.

        Returns:
            Whether the system can do that.
        """
        if self.device == "cuda":
            allowed = torch.cuda.memory_reserved() + size
            total = torch.cuda.get_device_properties(0).total_memory
            torch.cuda.set_per_process_memory_fraction(min(1.0, allowed / total))
            return True
        return process_memory.limit_growth(size)
