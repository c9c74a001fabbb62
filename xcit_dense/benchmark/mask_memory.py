"""Memory and time of getting instance masks of a large image as run lengths, mmdet's way and ours.

The masks come from a mask head's logits and boxes, as in Mask R-CNN; the network before it is left
out, since it sees the image at the size of the test pipeline, not at its own.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from xcit_dense.benchmark.peak_memory import measure_peak_memory

WAYS = ("mmdet", "in boxes")


@dataclass(frozen=True)
class MaskTask:
    """Instances on an image.

    Attributes:
        height: of the image, in pixels.
        width: of the image, in pixels.
        instances: their number.
        longest_box: largest side of a box, as a part of the image's.

    Raises:
        ValueError: there is nothing to measure.
    """

    height: int = 4000
    width: int = 6000
    instances: int = 100
    longest_box: float = 0.5

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
        result_bytes: of the run lengths.
    """

    peak_bytes: int
    seconds: float
    result_bytes: int


def measure_in_own_process(way: str, task: MaskTask) -> MaskCost:
    """Measure one way in a process of its own, so that none profits from another's memory."""
    program = "from xcit_dense.benchmark.mask_memory import work; work()"
    request = json.dumps({"way": way, "task": asdict(task)})
    process = subprocess.run(
        [sys.executable, "-c", program], input=request, capture_output=True, text=True
    )
    if process.returncode:
        raise RuntimeError(f"{way}: the measurement failed\n{process.stderr[-2000:]}")
    return MaskCost(**json.loads(process.stdout.splitlines()[-1]))


def work() -> None:
    """Measure what standard input asks for and print it."""
    request = json.loads(sys.stdin.read())
    print(json.dumps(asdict(measure(request["way"], MaskTask(**request["task"])))))


def measure(way: str, task: MaskTask) -> MaskCost:
    """Measure one way in this process."""
    torch.manual_seed(0)
    predict = _make_predictor(way, task)
    start = time.perf_counter()
    peak, masks = measure_peak_memory(predict)
    seconds = time.perf_counter() - start
    return MaskCost(peak.bytes, seconds, sum(len(mask["counts"]) for mask in masks))


def report(costs: dict[str, MaskCost], task: MaskTask) -> str:
    """The measurements as a table in Markdown."""
    rows = [
        f"| {way} | {cost.peak_bytes / 1e6:.0f} MB | {cost.seconds:.1f} s |"
        for way, cost in costs.items()
    ]
    head = f"| {task.instances} masks on {task.width} x {task.height} | peak memory | time |"
    return "\n".join([head, "|---|---|---|", *rows])


def _make_predictor(way: str, task: MaskTask) -> Callable[[], Sequence[dict]]:
    from mmdet.models.roi_heads.mask_heads import FCNMaskHead
    from mmdet.structures.mask import encode_mask_results
    from mmengine.config import ConfigDict

    from xcit_dense.openmmlab.prediction import encode_masks_in_boxes

    head = FCNMaskHead(num_convs=0, in_channels=4, conv_out_channels=4, num_classes=1)
    logits, boxes, labels = _instances(task)
    meta = {"scale_factor": (1.0, 1.0), "ori_shape": (task.height, task.width)}
    if way == "in boxes":
        encode_masks_in_boxes(nn.ModuleList([head]))

    @torch.no_grad()
    def predict() -> Sequence[dict]:
        masks = head._predict_by_feat_single(
            logits, boxes, labels, meta, ConfigDict(mask_thr_binary=0.5), rescale=True
        )
        return masks if isinstance(masks, list) else encode_mask_results(masks.numpy())

    return predict


def _instances(task: MaskTask) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of discs, boxes anywhere in the image and labels."""
    size = torch.tensor([task.width, task.height], dtype=torch.float32)
    extent = size * task.longest_box * (0.05 + 0.95 * torch.rand(task.instances, 2))
    corner = (size - extent) * torch.rand(task.instances, 2)
    steps = torch.linspace(-1, 1, 28)
    disc = 4 * (0.8 - steps[:, None] ** 2 - steps**2)
    logits = disc + torch.randn(task.instances, 1, 28, 28) * 0.3
    labels = torch.zeros(task.instances, dtype=torch.long)
    return logits, torch.cat([corner, corner + extent], dim=1), labels
