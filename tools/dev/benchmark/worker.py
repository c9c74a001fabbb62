"""What a contender does in its own process."""

import time
from typing import NamedTuple

import torch
from dev.benchmark.contenders import DTYPES, TRAINING, Contender
from dev.benchmark.counting import Kernels
from dev.benchmark.peak_memory import measure_peak_memory, release_memory
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks


class Size(NamedTuple):
    """Height and width of images in pixels, and their number."""

    height: int
    width: int
    images: int = 1

    def __str__(self) -> str:
        images = f"x{self.images}" if self.images > 1 else ""
        return f"{self.height}x{self.width}{images}"


class Runner:
    """Builds a contender with a fixed seed, and runs it in one mode and size after the other.

    Args:
        contender: whom to build.
        arch: XCiT architecture.
        patch_size: of XCiT.
        device: ``cpu`` or ``cuda``.
        threads: of torch on the CPU; None leaves torch's choice.
    """

    def __init__(
        self,
        contender: Contender,
        arch: str | dict,
        patch_size: int,
        device: str = "cpu",
        threads: int | None = None,
    ) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        # fp32 is fp32: no product is rounded to TF32
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        torch.manual_seed(0)
        self.dtype, self.device = contender.dtype, device
        self.model = contender.build(arch, patch_size).to(device)

    def prepare(self, mode: str, size: Size) -> dict[str, int | None]:
        """Run for the first times, and find what needs no repeats: fields of a measurement."""
        self.model.train(mode == TRAINING)
        generator = torch.Generator().manual_seed(0)
        image = torch.randn(size.images, 3, size.height, size.width, generator=generator)
        self.image = image.to(self.device)
        self._run()
        found = dict(kept_bytes=self._kept_bytes() if self.model.training else None)
        self.model.zero_grad(set_to_none=True)
        found["peak_bytes"] = measure_peak_memory(self._run, self.device)[0]
        # a compiled model hides its operations: they are counted on the model as it was
        compiled, self.model = self.model, getattr(self.model, "_orig_mod", self.model)
        with Kernels() as kernels:
            self._run()
        self.model = compiled
        return dict(found, kernels=kernels.count, moved_bytes=kernels.bytes)

    def time_run(self) -> float:
        """Seconds of one inference, or of one forward and backward pass without optimizer."""
        if self.device == "cuda":
            self._run()  # fills the cache of device memory again, untimed
            torch.cuda.synchronize()
        start = time.perf_counter()
        levels = self._run()
        if self.device == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
        del levels  # until here, as whoever uses them would hold them
        if self.device == "cuda":
            torch.cuda.empty_cache()  # leaves the GPU's memory to the other processes
        return seconds

    def rest(self) -> None:
        """Let go of all memory but the weights."""
        del self.image
        self.model.zero_grad(set_to_none=True)
        release_memory()

    def _run(self) -> tuple[Tensor, ...]:
        self.model.zero_grad(set_to_none=True)
        with torch.set_grad_enabled(self.model.training):
            levels = self._forward()
            if self.model.training:
                sum(level.float().square().mean() for level in levels).backward()
        return levels

    def _forward(self) -> tuple[Tensor, ...]:
        with torch.autocast(self.device, DTYPES[self.dtype], enabled=self.dtype != "fp32"):
            return tuple(self.model(self.image))

    def _kept_bytes(self) -> int:
        """Storages that forward saves for backward, each once; weights and image do not count."""
        kept: dict[int, Tensor] = {}  # by address, which the tensor keeps from being used again

        def pack(tensor: Tensor) -> Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        with saved_tensors_hooks(pack, lambda tensor: tensor):
            self._forward()
        for tensor in (*self.model.parameters(), *self.model.buffers(), self.image):
            kept.pop(tensor.untyped_storage().data_ptr(), None)
        return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
