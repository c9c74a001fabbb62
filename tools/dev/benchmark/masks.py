"""Measures memory and time of the masks of an image of 6000 x 4000 pixels, mm's and ours.

Usage: python tools/benchmark_masks.py --heads segmentor --instances 150

mm's heads get random logits; the network before them is left out, since it sees the image at the
size of the test pipeline, not at its own.
"""

import argparse
import multiprocessing
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import torch
import torch.nn.functional as F
from dev.benchmark.peak_memory import measure_peak_memory
from dev.benchmark.report import markdown_table
from torch import Tensor, nn

IMAGE = (4000, 6000)

# a head, and what predicts with it
Head = tuple[nn.Module, Callable[[], Any]]


def mask_rcnn(height: int, width: int, instances: int) -> Head:
    """Pastes masks in boxes of up to half the image's height and width."""
    from mmdet.models.roi_heads.mask_heads import FCNMaskHead
    from mmengine.config import ConfigDict
    from mmengine.registry import DefaultScope

    with DefaultScope.overwrite_default_scope("mmdet"):
        head = FCNMaskHead(num_convs=0, in_channels=4, conv_out_channels=4, num_classes=1)
    corners, extents = torch.rand(2, instances, 2) / 2
    boxes = torch.cat([corners, corners + extents], dim=1) * torch.tensor([width, height] * 2)
    logits, labels = _blobs(instances, (28, 28))[:, None], torch.zeros(instances).long()
    meta = dict(scale_factor=(1.0, 1.0), ori_shape=(height, width))
    cfg = ConfigDict(mask_thr_binary=0.5)
    return head, lambda: head._predict_by_feat_single(logits, boxes, labels, meta, cfg, True)


def segmentor(height: int, width: int, classes: int) -> Head:
    """Makes a class map."""
    from mmseg.models import EncoderDecoder
    from mmseg.structures import SegDataSample

    model = EncoderDecoder.__new__(EncoderDecoder)  # without a network
    nn.Module.__init__(model)
    model.align_corners = False
    logits = _blobs(classes, (height // 5, width // 5))[None]  # the network sees a small image
    samples = [SegDataSample(metainfo=dict(ori_shape=(height, width)))]
    return model, lambda: model.postprocess_result(logits, samples)[0].pred_sem_seg.data


HEADS = {"Mask R-CNN": mask_rcnn, "segmentor": segmentor}


def _blobs(instances: int, size: tuple[int, int]) -> Tensor:
    """Logits (n, rows, columns) of blobs of several sizes."""
    return F.interpolate(4 * torch.randn(1, instances, 6, 6), size, mode="bilinear")[0]


def measure(name: str, one_by_one: bool, height: int, width: int, instances: int) -> list[str]:
    """Peak memory, seconds, and a number that is the same for equal masks."""
    torch.manual_seed(0)
    head, predict = HEADS[name](height, width, instances)
    if one_by_one:
        from xcit_dense.predict import encode_masks, keep_classes_only

        encode_masks(nn.ModuleList([head]))
        keep_classes_only(head)

    @torch.no_grad()
    def run() -> list[dict] | Tensor:
        from mmdet.structures.mask import encode_mask_results

        masks = predict()
        return masks if one_by_one or name == "segmentor" else encode_mask_results(masks.numpy())

    start = time.perf_counter()
    peak, masks = measure_peak_memory(run)
    seconds = time.perf_counter() - start
    content = masks.numpy().tobytes() if isinstance(masks, Tensor) else repr(masks).encode()
    memory = "-" if peak is None else f"{peak / 1e6:.0f} MB"
    return [memory, f"{seconds:.1f} s", f"{zlib.crc32(content):x}"]


def main(arguments: list[str] | None = None) -> None:
    """Measure each way in a process of its own and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--heads", nargs="+", choices=HEADS, default=["Mask R-CNN"])
    parser.add_argument("--instances", type=int, default=100, help="masks, or classes")
    options = parser.parse_args(arguments)
    rows = []
    for head in options.heads:
        for way in ("mm", "one by one"):
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                task = pool.submit(measure, head, way != "mm", *IMAGE, options.instances)
                try:
                    rows.append([head, way, *task.result()])
                except BrokenProcessPool:
                    rows.append([head, way, "died", "", ""])
    print(markdown_table(["head", "way", "peak memory", "time", "checksum"], rows))
