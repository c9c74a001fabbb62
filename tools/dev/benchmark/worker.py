"""What a contender does in its own process."""

import time

import torch
from dev.benchmark.contenders import DTYPES, TRAINING, Contender
from dev.benchmark.peak_memory import measure_peak_memory, release_memory
from torch import Tensor


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
        """Run for the first times, and measure the peak memory in bytes, None if unknown."""
        self.model.train(mode == TRAINING)
        self.image = torch.randn(images, 3, height, width).to(next(self.model.parameters()).device)
        self._run()
        self.model.zero_grad(set_to_none=True)
        return measure_peak_memory(self._run, self.image.device.type)[0]

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
