"""Measures memory and time of the masks of a large image, as mm makes them and one by one.

Usage: python tools/benchmark_masks.py --height 4000 --width 6000 --instances 100

mm's heads get random logits; the network before them is left out, since it sees the image at the
size of the test pipeline, not at its own.
"""

import argparse
import time
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from dev.benchmark.options import count
from dev.benchmark.peak_memory import measure_peak_memory
from dev.benchmark.processes import OwnProcess, ProcessError
from dev.benchmark.report import markdown_table
from torch import Tensor, nn

_INPUT_SIDE = 1200  # the longer side of what the network sees

# a head, and what predicts with it
Head = tuple[nn.Module, Callable[[], Any]]


def mask_rcnn(height: int, width: int, instances: int) -> Head:
    """Pastes masks in boxes of up to half the image's height and width."""
    from mmdet.models.roi_heads.mask_heads import FCNMaskHead
    from mmengine.config import ConfigDict

    head = FCNMaskHead(num_convs=0, in_channels=4, conv_out_channels=4, num_classes=1)
    corners, extents = torch.rand(2, instances, 2) / 2
    boxes = torch.cat([corners, corners + extents], dim=1) * torch.tensor([width, height] * 2)
    logits, labels = _blobs(instances, (28, 28))[:, None], torch.zeros(instances).long()
    meta = dict(scale_factor=(1.0, 1.0), ori_shape=(height, width))
    cfg = ConfigDict(mask_thr_binary=0.5)
    return head, lambda: head._predict_by_feat_single(logits, boxes, labels, meta, cfg, True)


def mask2former(height: int, width: int, instances: int) -> Head:
    """Picks the masks of the best queries."""
    from mmdet.models.seg_heads.panoptic_fusion_heads import MaskFormerFusionHead
    from mmdet.structures import DetDataSample
    from mmengine.config import ConfigDict

    cfg = ConfigDict(panoptic_on=False, instance_on=True, max_per_image=instances)
    head = MaskFormerFusionHead(1, 0, test_cfg=cfg)
    size = _input_size(height, width)
    logits, classes = _blobs(instances, size)[None], torch.tensor([[4.0, 0.0]] * instances)[None]
    samples = [DetDataSample(metainfo=dict(img_shape=size, ori_shape=(height, width)))]
    return head, lambda: head.predict(classes, logits, samples, True)[0]["ins_results"].masks


def segmentor(height: int, width: int, classes: int) -> Head:
    """Makes a class map."""
    from mmseg.models import EncoderDecoder
    from mmseg.structures import SegDataSample

    model = EncoderDecoder.__new__(EncoderDecoder)  # without a network
    nn.Module.__init__(model)
    model.align_corners = False
    logits = _blobs(classes, _input_size(height, width))[None]
    samples = [SegDataSample(metainfo=dict(ori_shape=(height, width)))]
    return model, lambda: model.postprocess_result(logits, samples)[0].pred_sem_seg.data


HEADS = {"Mask R-CNN": mask_rcnn, "Mask2Former": mask2former, "segmentor": segmentor}


def _blobs(instances: int, size: tuple[int, int]) -> Tensor:
    """Logits (n, rows, columns) of blobs of several sizes."""
    return F.interpolate(4 * torch.randn(1, instances, 6, 6), size, mode="bilinear")[0]


def _input_size(height: int, width: int) -> tuple[int, int]:
    scale = _INPUT_SIDE / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


class MaskRunner:
    """Makes the masks of one image: ``size`` is height, width and number of masks or classes."""

    def __init__(self, head: str, one_by_one: bool, size: tuple[int, int, int]) -> None:
        from mmdet.structures.mask import encode_mask_results

        from xcit_dense.predict import encode_masks, keep_classes_only

        torch.manual_seed(0)
        self.encode, self.is_class_map = encode_mask_results, head == "segmentor"
        model, self.predict = HEADS[head](*size)
        if one_by_one:
            encode_masks(nn.ModuleList([model]))
            keep_classes_only(model)

    @torch.no_grad()
    def measure(self) -> list[str]:
        """Peak memory, seconds, and a number that is the same for equal results."""

        def run() -> list[dict] | Tensor:
            masks = self.predict()
            if self.is_class_map or isinstance(masks, list):
                return masks
            return self.encode(masks.numpy())

        start = time.perf_counter()
        peak, masks = measure_peak_memory(run)
        seconds = time.perf_counter() - start
        data = masks.numpy().tobytes() if self.is_class_map else repr(masks).encode()
        memory = "-" if peak is None else f"{peak / 1e6:.0f} MB"
        return [memory, f"{seconds:.1f} s", f"{zlib.crc32(data):x}"]


def main(arguments: list[str] | None = None) -> None:
    """Measure each way in a process of its own and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--height", type=count, default=4000, help="rows of the image")
    parser.add_argument("--width", type=count, default=6000, help="columns of the image")
    parser.add_argument("--instances", type=count, default=100, help="masks, or classes")
    parser.add_argument("--heads", nargs="+", choices=HEADS, default=["Mask R-CNN"])
    options = parser.parse_args(arguments)
    size, rows = (options.height, options.width, options.instances), []
    for head in options.heads:
        for way in ("mm", "one by one"):
            process = OwnProcess(partial(MaskRunner, head, way != "mm", size))
            try:
                found = process.call("measure")
            except ProcessError as error:
                found = [str(error), "", ""]
            rows.append([head, way, *found])
            process.stop()
    print(f"{options.instances} masks or classes on {options.width} x {options.height} pixels\n")
    print(markdown_table(["head", "way", "peak memory", "time", "checksum"], rows))
