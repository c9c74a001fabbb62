"""Runs one contender in one mode; lives in the contender's own process."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from dev.benchmark.contenders import Contender
from dev.benchmark.kept_for_backward import bytes_kept_for_backward
from dev.benchmark.names import TRAINING
from dev.benchmark.peak_memory import PeakMemory, measure_peak_memory
from dev.benchmark.torch_settings import TorchSettings
from torch import Tensor

from xcit_dense.doctor.flops import count_flops

SEED = 0
_WARM_UP_RUNS = {"cpu": 1, "cuda": 3}


@dataclass(frozen=True)
class Task:
    """What a contender's process is to run, all through a mode."""

    contender: Contender
    mode: str
    arch: str | dict
    patch_size: int
    dtype: str
    settings: TorchSettings


@dataclass(frozen=True)
class WarmUp:
    """What the first runs at a size tell.

    Attributes:
        flops: floating-point operations of one run.
        output_bytes: of the pyramid itself.
        outputs: the pyramid in fp32, if it was asked for.
    """

    flops: int
    output_bytes: int
    outputs: tuple[np.ndarray, ...] | None


@dataclass(frozen=True)
class MemoryRun:
    """What the run for memory tells.

    Attributes:
        peak: beyond weights and image; in training the gradients of the weights count.
        kept_bytes: what forward keeps for backward, weights and image left out; None for
            inference.
        seconds: time of the run, a first estimate.
    """

    peak: PeakMemory
    kept_bytes: int | None
    seconds: float


class ContenderRunner:
    """Builds the contender with a fixed seed, then runs it as it is told.

    Args:
        task: what to run.
    """

    def __init__(self, task: Task) -> None:
        task.settings.apply()
        torch.manual_seed(SEED)
        self.task = task
        self.settings = task.settings
        self.plain_model = task.contender.build(task.arch, task.patch_size)
        self.plain_model.to(task.settings.device)
        self.plain_model.train(task.mode == TRAINING)
        self.model = self.plain_model
        if task.contender.compiled:
            self.model = torch.compile(self.plain_model, dynamic=True)
        self.image: Tensor | None = None

    def limit_memory(self, size: int) -> bool:
        """Let what takes more than ``size`` bytes beyond the weights run out of memory."""
        return self.settings.limit_memory(size)

    def warm_up(self, batch_size: int, height: int, width: int, with_outputs: bool) -> WarmUp:
        """Take an image size and run for the first times, counting operations."""
        generator = torch.Generator().manual_seed(SEED)
        image = torch.randn(batch_size, 3, height, width, generator=generator)
        self.image = image.to(self.settings.device)
        # A compiled model hides its operations: they are counted on the model as it was.
        flops, levels = count_flops(lambda: self._run(self.plain_model))
        for _ in range(_WARM_UP_RUNS[self.settings.device] - (self.model is self.plain_model)):
            levels = self._run(self.model)
        output_bytes = sum(level.nbytes for level in levels)
        outputs = None
        if with_outputs:
            outputs = tuple(level.detach().float().cpu().numpy() for level in levels)
        del levels
        self._release_device()
        return WarmUp(flops, output_bytes, outputs)

    def measure_memory(self) -> MemoryRun:
        """Run once for the peak memory and, in training, once for what is kept."""
        kept_bytes = self._kept_bytes() if self.task.mode == TRAINING else None
        self.plain_model.zero_grad(set_to_none=True)
        peak, seconds = measure_peak_memory(self._timed_run, self.settings.device)
        self._release_device()
        return MemoryRun(peak, kept_bytes, seconds)

    def time_run(self) -> float:
        """Seconds of one run."""
        if self.settings.device == "cuda":
            self._run(self.model)  # fills the cache of device memory again, untimed
        seconds = self._timed_run()
        self._release_device()
        return seconds

    def release(self) -> None:
        """Let go of the image and of all that is free."""
        self.image = None
        self.plain_model.zero_grad(set_to_none=True)
        self.settings.release_memory()

    def _release_device(self) -> None:
        """Leave the GPU's memory to the other processes; each process keeps a cache of it."""
        if self.settings.device == "cuda":
            self.settings.release_memory()

    def _timed_run(self) -> float:
        self.settings.synchronize()
        start = time.perf_counter()
        levels = self._run(self.model)
        self.settings.synchronize()
        seconds = time.perf_counter() - start
        del levels  # until here, as whoever uses them would hold them
        return seconds

    def _run(self, model: Callable[[Tensor], Any]) -> tuple[Tensor, ...]:
        """One inference, or one training step without optimizer."""
        if self.task.mode == TRAINING:
            self.plain_model.zero_grad(set_to_none=True)
            with self.settings.autocast(self.task.dtype):
                levels = tuple(model(self.image))
                loss = sum(level.float().square().mean() for level in levels)
            loss.backward()
            return levels
        with torch.no_grad(), self.settings.autocast(self.task.dtype):
            return tuple(model(self.image))

    def _kept_bytes(self) -> int:
        def forward() -> tuple[Tensor, ...]:
            with self.settings.autocast(self.task.dtype):
                return tuple(self.model(self.image))

        not_kept = [*self.plain_model.parameters(), *self.plain_model.buffers(), self.image]
        kept_bytes, _ = bytes_kept_for_backward(forward, not_kept)
        return kept_bytes
