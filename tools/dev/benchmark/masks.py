"""Measures memory and time of the masks of a large image, as mm makes them and one by one.

Usage: python tools/benchmark_masks.py --height 4000 --width 6000 --instances 100

mm's heads get predicted discs; the network before them is left out, since it sees the image at the
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
_LONGEST_BOX = 0.5  # of the image's side

Head = tuple[nn.Module, Callable[[], Any]]


def mask_rcnn(height: int, width: int, instances: int) -> Head:
    """A head that pastes masks in boxes, and what predicts masks with it."""
    from mmdet.models.roi_heads.mask_heads import FCNMaskHead
    from mmengine.config import ConfigDict

    head = FCNMaskHead(num_convs=0, in_channels=4, conv_out_channels=4, num_classes=1)
    corners, extents = _boxes(instances)
    boxes = torch.cat([corners, corners + extents], dim=1) * torch.tensor([width, height] * 2)
    disc = _discs(torch.zeros(1, 2), torch.ones(1, 2), (28, 28)).expand(instances, 1, 28, 28)
    labels = torch.zeros(instances, dtype=torch.long)
    meta = dict(scale_factor=(1.0, 1.0), ori_shape=(height, width))
    cfg = ConfigDict(mask_thr_binary=0.5)
    return head, lambda: head._predict_by_feat_single(disc, boxes, labels, meta, cfg, True)


def mask2former(height: int, width: int, instances: int) -> Head:
    """A head that picks the best queries' masks, and what predicts masks with it."""
    from mmdet.models.seg_heads.panoptic_fusion_heads import MaskFormerFusionHead
    from mmdet.structures import DetDataSample
    from mmengine.config import ConfigDict

    cfg = ConfigDict(panoptic_on=False, instance_on=True, max_per_image=instances)
    head = MaskFormerFusionHead(1, 0, test_cfg=cfg)
    size = _input_size(height, width)
    logits = F.interpolate(_discs(*_boxes(instances), _input_size(height, width, 4))[None], size)
    classes = torch.tensor([4.0, 0.0]).expand(1, instances, 2)
    sample = DetDataSample(metainfo=dict(img_shape=size, ori_shape=(height, width)))
    return (
        head,
        lambda: head.predict(classes, logits, [sample], rescale=True)[0]["ins_results"].masks,
    )


def segmentor(height: int, width: int, classes: int) -> Head:
    """A segmentor of mmseg without a network, and what predicts a class map with it."""
    from mmseg.models import EncoderDecoder
    from mmseg.structures import SegDataSample

    model = EncoderDecoder.__new__(EncoderDecoder)
    nn.Module.__init__(model)
    model.align_corners = False
    logits = _discs(*_boxes(classes), _input_size(height, width))[None]
    sample = SegDataSample(metainfo=dict(ori_shape=(height, width)))
    return model, lambda: model.postprocess_result(logits, [sample])[0].pred_sem_seg.data


HEADS = {"Mask R-CNN": mask_rcnn, "Mask2Former": mask2former, "segmentor": segmentor}


def _boxes(instances: int) -> tuple[Tensor, Tensor]:
    """Corners and extents of boxes anywhere, horizontal and vertical, as parts of the image's."""
    extents = _LONGEST_BOX * (0.05 + 0.95 * torch.rand(instances, 2))
    return (1 - extents) * torch.rand(instances, 2), extents


def _discs(corners: Tensor, extents: Tensor, size: tuple[int, int]) -> Tensor:
    """Logits (n, rows, columns) of discs in boxes."""
    y, x = (
        (2 * torch.linspace(0, 1, side) - 2 * corners[:, i, None]) / extents[:, i, None] - 1
        for i, side in ((1, size[0]), (0, size[1]))
    )
    return 4 * (1 - y[:, :, None] ** 2 - x[:, None] ** 2)


def _input_size(height: int, width: int, stride: int = 1) -> tuple[int, int]:
    """What the test pipeline makes of the image's size, as rows and columns of a stride."""
    scale = _INPUT_SIDE / max(height, width) / stride
    return max(1, round(height * scale)), max(1, round(width * scale))


class MaskRunner:
    """Makes the masks of one image in one way.

    Args:
        head: of :data:`HEADS`.
        one_by_one: this package's way instead of mm's.
        size: height, width and number of instances; of classes for a segmentor.
    """

    def __init__(self, head: str, one_by_one: bool, size: tuple[int, int, int]) -> None:
        from xcit_dense.predict import encode_masks, keep_classes_only

        torch.manual_seed(0)
        model, self.predict = HEADS[head](*size)
        if one_by_one:
            encode_masks(nn.ModuleList([model]))
            keep_classes_only(model)

    @torch.no_grad()
    def measure(self) -> tuple[int | None, float, int]:
        """Peak memory in bytes, seconds, and a number that is the same for equal results."""
        from mmdet.structures.mask import encode_mask_results

        def run() -> list[dict] | Tensor:
            masks = self.predict()
            is_done = isinstance(masks, list) or masks.dtype == torch.long
            return masks if is_done else encode_mask_results(masks.numpy())

        start = time.perf_counter()
        peak, masks = measure_peak_memory(run)
        seconds = time.perf_counter() - start
        if isinstance(masks, Tensor):
            return peak, seconds, int(masks.sum())
        return peak, seconds, zlib.crc32(b"".join(mask["counts"] for mask in masks))


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
    size = options.height, options.width, options.instances
    rows = []
    for head in options.heads:
        for way in ("mm", "one by one"):
            process = OwnProcess(partial(MaskRunner, head, way != "mm", size))
            try:
                peak, seconds, checksum = process.call("measure")
                found = ["-" if peak is None else f"{peak / 1e6:.0f}", f"{seconds:.1f}"]
                rows.append([head, way, *found, f"{checksum:x}"])
            except ProcessError as error:
                rows.append([head, way, "-", "-", str(error)])
            process.stop()
    print(f"{options.instances} masks or classes on {options.width} x {options.height} pixels\n")
    print(markdown_table(["head", "way", "peak MB", "seconds", "checksum of the result"], rows))
