"""What a contender does in its own process."""

import time
from typing import NamedTuple

import torch
from dev.benchmark.contenders import DTYPES, TRAINING, Contender
from dev.benchmark.counting import Kernels
from dev.benchmark.peak_memory import measure_peak_memory, release_memory
from torch import Tensor


class Size(NamedTuple):
    """Height and width of images in pixels, and their number."""

    height: int
    width: int
    images: int = 1

    def __str__(self) -> str:
        return "x".join(map(str, self)).removesuffix("x1")


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

    def prepare(self, mode: str, size: Size) -> dict[str, int | None]:
        """Run for the first times, and find what needs no repeats: fields of a measurement."""
        self.model.train(mode == TRAINING)
        height, width, images = size
        self.image = torch.randn(images, 3, height, width).to(next(self.model.parameters()).device)
        # a compiled model hides its operations: they are counted on the model as it was
        with Kernels() as kernels:
            self._run(getattr(self.model, "_orig_mod", self.model))
        self._run(self.model)
        self.model.zero_grad(set_to_none=True)
        peak, _ = measure_peak_memory(lambda: self._run(self.model), self.image.device.type)
        return dict(peak_bytes=peak, kernels=kernels.count, moved_bytes=kernels.bytes)

    def time_run(self) -> float:
        """Seconds of one inference, or of one forward and backward pass without optimizer."""
        if self.on_cuda:
            self._run(self.model)  # fills the cache of device memory again, untimed
            torch.cuda.synchronize()
        start = time.perf_counter()
        levels = self._run(self.model)
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

    def _run(self, model: torch.nn.Module) -> tuple[Tensor, ...]:
        model.zero_grad(set_to_none=True)
        with torch.set_grad_enabled(model.training):
            device, is_low = self.image.device.type, self.dtype != "fp32"
            with torch.autocast(device, DTYPES[self.dtype], enabled=is_low):
                levels = tuple(model(self.image))
            if model.training:
                sum(level.float().square().mean() for level in levels).backward()
        return levels
