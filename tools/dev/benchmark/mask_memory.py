"""Memory and time of the masks or the class map of a large image, mm's way and one by one."""

import json
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from dev.benchmark.mask_heads import HEADS, SEGMENTOR
from dev.benchmark.peak_memory import measure_peak_memory
from torch import Tensor, nn

WAYS = ("mm", "one by one")
_OUT_OF_MEMORY = "can't allocate memory"  # torch's words


@dataclass(frozen=True)
class MaskTask:
    """Instances on an image.

    Attributes:
        height: of the image, in pixels.
        width: of the image, in pixels.
        instances: their number; of classes for a segmentor.
        longest_box: largest side of a box, as a part of the image's.
        head: what predicts the masks, of :data:`HEADS`.

    Raises:
        ValueError: there is nothing to measure.
    """

    height: int = 4000
    width: int = 6000
    instances: int = 100
    longest_box: float = 0.5
    head: str = "Mask R-CNN"

    def __post_init__(self) -> None:
        if min(self.height, self.width, self.instances) < 1:
            raise ValueError(
                f"{self.instances} instances on {self.width} x {self.height} pixels: at least 1 "
                "each is needed"
            )


@dataclass(frozen=True)
class MaskCost:
    """A measurement.

    Attributes:
        peak_bytes: the most memory in use beyond what was before.
        seconds: for all instances.
        checksum: the same for equal results.
    """

    peak_bytes: int
    seconds: float
    checksum: int


def measure_in_own_process(way: str, task: MaskTask) -> MaskCost | None:
    """Measure one way in a process of its own, so that none profits from another's memory.

    Returns:
        None where the memory does not suffice.

    Raises:
        RuntimeError: the measurement failed otherwise.
    """
    program = "from dev.benchmark.mask_memory import work; work()"
    request = json.dumps({"way": way, "task": asdict(task)})
    process = subprocess.run(
        [sys.executable, "-c", program], input=request, capture_output=True, text=True
    )
    if process.returncode == -signal.SIGKILL or _OUT_OF_MEMORY in process.stderr:
        return None
    if process.returncode:
        raise RuntimeError(f"{way}: the measurement failed\n{process.stderr[-2000:]}")
    return MaskCost(**json.loads(process.stdout.splitlines()[-1]))


def work() -> None:
    """Measure what standard input asks for and print it."""
    request = json.loads(sys.stdin.read())
    print(json.dumps(asdict(measure(request["way"], MaskTask(**request["task"])))))


def measure(way: str, task: MaskTask) -> MaskCost:
    """Measure one way in this process."""
    from mmdet.structures.mask import encode_mask_results

    from xcit_dense.predict import encode_masks
    from xcit_dense.predict.class_maps import keep_classes_only

    torch.manual_seed(0)
    head, predict = HEADS[task.head](task.height, task.width, task.instances, task.longest_box)
    if way != "mm":
        encode_masks(nn.ModuleList([head]))
        keep_classes_only(head)

    @torch.no_grad()
    def finish() -> Sequence[dict] | Tensor:
        result = predict()
        if task.head == SEGMENTOR or isinstance(result, list):
            return result
        return encode_mask_results(result.numpy())

    start = time.perf_counter()
    peak, result = measure_peak_memory(finish)
    seconds = time.perf_counter() - start
    return MaskCost(peak.bytes, seconds, _checksum(result))


def _checksum(result: Sequence[dict] | Tensor) -> int:
    """Of run lengths, or of the classes of pixels."""
    if isinstance(result, Tensor):
        return result.sum().item()
    return zlib.crc32(b"".join(mask["counts"] for mask in result))


def report(costs: dict[str, MaskCost | None], task: MaskTask) -> str:
    """The measurements of one task as a table in Markdown."""
    things = "classes" if task.head == SEGMENTOR else "masks"
    head = f"| {task.head}: {task.instances} {things} on {task.width} x {task.height}"
    rows = [
        f"| {way} | {cost.peak_bytes / 1e6:.0f} MB | {cost.seconds:.1f} s |"
        if cost
        else f"| {way} | out of memory | |"
        for way, cost in costs.items()
    ]
    return "\n".join([f"{head} | peak memory | time |", "|---|---|---|", *rows])
