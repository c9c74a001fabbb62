"""Times on a GPU: XCiT plain, compiled and as a CUDA graph, beside other backbones."""

import copy
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from dev.benchmark.gpu_models import FORMS, Setup, contender
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from xcit_dense.doctor.flops import count_flops

INFERENCE, TRAINING = "inference", "training"
PLAIN, COMPILED, GRAPH, COMPILED_GRAPH = "plain", "compile", "CUDA graph", "compile, CUDA graph"
# bf16w: the weights are bfloat16 too, as after model.bfloat16(); bf16: autocast
DTYPES = {"bf16": torch.bfloat16, "bf16w": torch.bfloat16, "fp32": torch.float32}
_OURS = tuple(f"XCiT {form}" for form in FORMS)
_PEERS = ("ResNet-50", "ConvNeXt-T", "Swin-T")
_NOT_WRITTEN = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}


@dataclass(frozen=True)
class Row:
    """What is timed: a contender in one way at one size."""

    contender: str
    run: str
    mode: str
    dtype: str
    batch: int
    height: int
    width: int

    def __str__(self) -> str:
        size = f"{self.batch} x {self.height} x {self.width}"
        return f"{self.mode}, {self.dtype}, {size}, {self.contender}, {self.run}"


def rows(setup: Setup) -> Iterator[Row]:
    """What is to be timed, in the order of interest, as the time may be up before the end."""
    cuda = setup.device == "cuda"
    if setup.quick:
        leading, trained, others = [(2, 64, 96), (1, 80, 80)], [(2, 64, 96)], [(1, 96, 96)]
    else:
        leading = [(16, 1024, 1024), (1, 4096, 4096), (1, 800, 1344)]
        trained = [(8, 800, 1344), (16, 1024, 1024)]
        others = [(8, 800, 1344), (1, 1024, 1024), (1, 2048, 2048)]

    def each(names: tuple, runs: tuple, mode: str, dtype: str, sizes: list) -> Iterator[Row]:
        graphless = (PLAIN, COMPILED)
        for size in sizes:
            for name in names:
                yield from (
                    Row(name, run, mode, dtype, *size) for run in runs if cuda or run in graphless
                )

    # what needs no compiler takes seconds, so it is not put behind what does
    yield from each((*_OURS, "timm XCiT"), (PLAIN, GRAPH), INFERENCE, "bf16", leading)
    yield from each(_OURS, (PLAIN,), INFERENCE, "bf16w", leading)
    yield from each(_PEERS, (PLAIN,), INFERENCE, "bf16", leading if cuda else leading[:1])
    few = leading[:1] if setup.quick else leading
    names = _OURS[:1] if setup.quick else _OURS
    yield from each(names, (COMPILED, COMPILED_GRAPH), INFERENCE, "bf16", few)
    everyone = (*_OURS, "XCiT direct with_cp", "timm XCiT", *_PEERS)
    yield from each(everyone, (PLAIN,), TRAINING, "bf16", trained)
    if cuda:
        yield from each(_OURS, (COMPILED,), TRAINING, "bf16", trained[:1])
        yield from each(("timm XCiT",), (COMPILED,), INFERENCE, "bf16", leading[:1])
    plain = (*_OURS, "timm XCiT", *(_PEERS if cuda else ()))
    yield from each(plain, (PLAIN,), INFERENCE, "fp32", leading)
    yield from each(plain, (PLAIN,), TRAINING, "fp32", trained[:1])
    yield from each(plain, (PLAIN,), INFERENCE, "bf16", others)
    if cuda:
        large = [(1, 2048, 2048), (1, 4096, 4096), (1, 1024, 1024), (1, 800, 1344)]
        yield from each(plain, (PLAIN,), TRAINING, "bf16", large)
        yield from each(_OURS[:1], (COMPILED,), INFERENCE, "bf16w", leading)
        yield from each(_OURS[:1], (COMPILED,), INFERENCE, "fp32", leading[:1])
        yield from each(_PEERS, (COMPILED,), INFERENCE, "bf16", leading[:1])
        yield from each(plain, (PLAIN,), INFERENCE, "fp32", others)


class Timer:
    """Times rows one after the other, keeping models and what was counted between them.

    Args:
        setup: the device and the architecture.
    """

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.models: dict[tuple, nn.Module] = {}
        self.work: dict[tuple, tuple[int, int]] = {}
        self.compiled: tuple[Row | None, Callable | None] = (None, None)

    def measure(self, row: Row) -> dict[str, Any]:
        """Time one row.

        Returns:
            ``ms``; ``megapixels_per_second``; ``bytes_per_pixel`` at the peak, without weights
            and image, None on a CPU; ``gflop`` and ``gbyte`` of the plain model; ``setup_seconds``
            of compiling or capturing.
        """
        try:
            return self._measure(row)
        finally:
            self.release()

    def release(self) -> None:
        """Give back what the last row held."""
        for model in self.models.values():
            model.zero_grad(set_to_none=True)
        if self.setup.device == "cuda":
            torch.cuda.empty_cache()

    def has_compiled(self, row: Row) -> bool:
        """Whether the row before was compiled for the same."""
        return self.compiled[0] == _compiled(row)

    def _measure(self, row: Row) -> dict[str, Any]:
        model = self._model(row).train(row.mode == TRAINING)
        image = torch.randn(row.batch, 3, row.height, row.width, device=self.setup.device)
        image = image.to(next(model.parameters()).dtype)
        if row.contender not in (*_OURS, "Swin-T", "timm XCiT"):
            image = image.contiguous(memory_format=torch.channels_last)
        gflop, gbyte = self._work(row, model, image)

        start = time.monotonic()
        run = self._compile(row, model) if COMPILED in row.run else model
        step = self._step(row, model, run, image)
        memory = _PeakMemory(self.setup.device)
        for _ in range(1 if self.setup.quick else 3):
            step()
        self.setup.synchronize()
        if GRAPH in row.run:
            memory.start()
            step = _capture(step)
            used = memory.stop()
            times = self._times(step)
            del step
        else:
            setup_seconds = time.monotonic() - start
            memory.start()
            times = self._times(step)
            used = memory.stop()
        if GRAPH in row.run:
            setup_seconds = time.monotonic() - start - sum(times)
        seconds, pixels = statistics.median(times), row.batch * row.height * row.width
        return {
            "ms": seconds * 1e3,
            "megapixels_per_second": pixels / seconds / 1e6,
            "bytes_per_pixel": None if used is None else used / pixels,
            "gflop": gflop / 1e9,
            "gbyte": gbyte / 1e9,
            "setup_seconds": setup_seconds,
            "repeats": len(times),
        }

    def _model(self, row: Row) -> nn.Module:
        size = (row.height, row.width) if row.contender == "Swin-T" else (0, 0)
        key = (row.contender, row.dtype == "bf16w", size)
        if row.contender == "Swin-T":  # it keeps masks of the size of the image
            self.models = {k: m for k, m in self.models.items() if k[0] != "Swin-T" or k == key}
        if key not in self.models:
            plain = self.models.get((row.contender, False, size))
            if plain is not None:
                self.models[key] = copy.deepcopy(plain).bfloat16()
            else:
                model = contender(row.contender, self.setup.arch, row.height, row.width)
                model = model.to(self.setup.device)
                self.models[key] = model.bfloat16() if row.dtype == "bf16w" else model
        return self.models[key]

    def _compile(self, row: Row, model: nn.Module) -> Callable:
        """Compiled for one size, as one would for a fixed one; a graph reuses the row before."""
        if not self.has_compiled(row):
            torch._dynamo.reset()
            compiled = torch.compile(model, dynamic=False, backend=self.setup.compiler)
            self.compiled = (_compiled(row), compiled)
        return self.compiled[1]

    def _step(
        self, row: Row, model: nn.Module, run: Callable, image: Tensor
    ) -> Callable[[], object]:
        """Inference, or forward and backward without an optimizer."""
        autocast = self._autocast(row.dtype)
        if row.mode == INFERENCE:

            def infer() -> object:
                with torch.no_grad(), autocast():
                    return run(image)

            return infer
        with torch.no_grad(), autocast():
            gradients = [torch.full_like(level, 1e-3) for level in model(image)]

        def train() -> None:
            model.zero_grad(set_to_none=True)
            with autocast():
                levels = run(image)
            torch.autograd.backward(list(levels), gradients)

        return train

    def _autocast(self, dtype: str) -> Callable[[], AbstractContextManager]:
        if dtype != "bf16":
            return nullcontext
        # no cache: a graph may not use casts from outside it, and each weight is cast once anyway
        return lambda: torch.autocast(self.setup.device, torch.bfloat16, cache_enabled=False)

    def _work(self, row: Row, model: nn.Module, image: Tensor) -> tuple[int, int]:
        """Floating-point operations, and bytes that the operations of the plain model touch.

        A training step counts as three times the products of inference, whatever is computed
        again in it.
        """
        key = (row.contender, *_fields(row)[2:])
        if key not in self.work:
            step = self._step(row, model, model, image)
            bytes_moved = _BytesMoved()
            with bytes_moved:
                step()
            infer = replace(row, mode=INFERENCE)
            flops = count_flops(self._step(infer, model, model, image))[0]
            self.work[key] = (flops * (3 if row.mode == TRAINING else 1), bytes_moved.bytes)
            self.release()
        return self.work[key]

    def _times(self, step: Callable[[], object]) -> list[float]:
        """Seconds of each of as many runs as fit into about a second, three at least."""
        start = time.perf_counter()
        step()
        self.setup.synchronize()
        first = time.perf_counter() - start
        repeats = 2 if self.setup.quick else min(30, max(3, int(1 / first)))
        if self.setup.device != "cuda":
            times = []
            for _ in range(repeats):
                start = time.perf_counter()
                step()
                times.append(time.perf_counter() - start)
            return times
        # events are taken by the device itself: waiting for the CPU after each run is not in them
        events = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]
        events[0].record()
        for event in events[1:]:
            step()
            event.record()
        torch.cuda.synchronize()
        return [before.elapsed_time(after) / 1e3 for before, after in pairwise(events)]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it says that the device's memory does not suffice."""
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error).lower()


def _compiled(row: Row) -> Row:
    return replace(row, run=COMPILED)


def _fields(row: Row) -> tuple:
    return (row.contender, row.run, row.mode, row.dtype, row.batch, row.height, row.width)


def _capture(step: Callable[[], object]) -> Callable[[], None]:
    """Record a step, so that replaying it costs the CPU nothing."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    # other threads, as those of the compiler, may meanwhile do what a capture forbids
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        outputs = step()

    def replay(kept: object = outputs) -> None:  # what is recorded writes to them
        graph.replay()

    return replay


class _PeakMemory:
    """Bytes that were allocated at the peak between ``start`` and ``stop``, beyond the start."""

    def __init__(self, device: str) -> None:
        self.on_cuda = device == "cuda"
        self.before = 0

    def start(self) -> None:
        if self.on_cuda:
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated()

    def stop(self) -> int | None:
        return torch.cuda.max_memory_allocated() - self.before if self.on_cuda else None


class _BytesMoved(TorchDispatchMode):
    """Adds up the inputs and outputs of every operation that is not a view.

    It is what a device without caches would move that runs the operations one by one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        result = operation(*args, **(kwargs or {}))
        name = operation.overloadpacket.__name__
        is_view = name == "_unsafe_view" or any(
            output.alias_info is not None and not output.alias_info.is_write
            for output in operation._schema.returns
        )
        if not is_view and name not in _NOT_WRITTEN:
            tensors = tree_leaves((args, kwargs, result))
            self.bytes += sum(_size(t) for t in tensors if isinstance(t, Tensor))
        return result


def _size(tensor: Tensor) -> int:
    """Bytes of a tensor; one that is expanded has no more than its storage."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())
