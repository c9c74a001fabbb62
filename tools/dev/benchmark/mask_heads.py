"""mm's heads with predicted discs, up to the masks or the class map of a large image.

The network before them is left out, since it sees the image at the size of the test pipeline, not
at its own.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_INPUT_SIDE = 1200  # the longer side of what the network sees
_STRIDE = 4  # of predicted masks

Head = tuple[nn.Module, Callable[[], Any]]


def mask_rcnn(height: int, width: int, instances: int, longest_box: float) -> Head:
    """A head that pastes masks in boxes, and what predicts masks with it."""
    from mmdet.models.roi_heads.mask_heads import FCNMaskHead
    from mmengine.config import ConfigDict

    head = FCNMaskHead(num_convs=0, in_channels=4, conv_out_channels=4, num_classes=1)
    corner, extent = _boxes(instances, longest_box)
    size = torch.tensor([width, height])
    boxes = torch.cat([corner * size, (corner + extent) * size], dim=1)
    steps = torch.linspace(-1, 1, 28)
    disc = 4 * (0.8 - steps[:, None] ** 2 - steps**2)
    logits = disc + torch.randn(instances, 1, 28, 28) * 0.3
    labels = torch.zeros(instances, dtype=torch.long)
    meta = {"scale_factor": (1.0, 1.0), "ori_shape": (height, width)}
    return head, lambda: head._predict_by_feat_single(
        logits, boxes, labels, meta, ConfigDict(mask_thr_binary=0.5), rescale=True
    )


def solov2(height: int, width: int, instances: int, longest_box: float) -> Head:
    """A head that upsamples masks to the image, and what predicts masks with it."""
    from mmdet.models.dense_heads import SOLOV2Head
    from mmengine.config import ConfigDict
    from mmengine.registry import init_default_scope

    init_default_scope("mmdet")
    few = {"feat_channels": 2, "norm_cfg": {"type": "GN", "num_groups": 1}}
    features = {"start_level": 0, "end_level": 0, "out_channels": instances, "mask_stride": _STRIDE}
    grid = math.ceil(math.sqrt(instances))
    head = SOLOV2Head(
        num_classes=1,
        in_channels=2,
        stacked_convs=1,
        strides=(1,),
        scale_ranges=((1, 2),),
        num_grids=[grid],
        mask_feature_head=ConfigDict(**features, **few),
        **few,
        test_cfg=ConfigDict(
            score_thr=0.1, mask_thr=0.5, nms_pre=instances, max_per_img=instances, filter_thr=0,
            kernel="gaussian", sigma=2.0,
        ),
    )  # fmt: skip
    rows, columns = _input_size(height, width)
    logits = _discs(instances, longest_box, rows // _STRIDE, columns // _STRIDE)[None]
    meta = {"img_shape": (rows, columns), "ori_shape": (height, width)}
    return (
        head,
        lambda: (
            head._predict_by_feat_single(
                torch.eye(instances), torch.full((instances, 1), 0.9), logits, meta
            ).masks
        ),
    )


def mask2former(height: int, width: int, instances: int, longest_box: float) -> Head:
    """A head that picks the best queries' masks, and what predicts masks with it."""
    from mmdet.models.seg_heads.panoptic_fusion_heads import MaskFormerFusionHead
    from mmdet.structures import DetDataSample
    from mmengine.config import ConfigDict

    test_cfg = ConfigDict(panoptic_on=False, instance_on=True, max_per_image=instances)
    head = MaskFormerFusionHead(1, 0, test_cfg=test_cfg)
    size = _input_size(height, width)
    coarse = _discs(instances, longest_box, size[0] // _STRIDE, size[1] // _STRIDE)
    logits = F.interpolate(coarse[None], size=size, mode="bilinear")
    classes = torch.tensor([4.0, 0.0]).expand(1, instances, 2)
    sample = DetDataSample(metainfo={"img_shape": size, "ori_shape": (height, width)})
    return (
        head,
        lambda: head.predict(classes, logits, [sample], rescale=True)[0]["ins_results"].masks,
    )


def segmentor(height: int, width: int, classes: int, longest_disc: float) -> Head:
    """A segmentor of mmseg without a network, and what predicts a class map with it."""
    from mmseg.models import EncoderDecoder
    from mmseg.structures import SegDataSample

    model = EncoderDecoder.__new__(EncoderDecoder)
    nn.Module.__init__(model)
    model.align_corners = False
    logits = _discs(classes, longest_disc, *_input_size(height, width))[None]

    def predict() -> Tensor:
        sample = SegDataSample(metainfo={"ori_shape": (height, width)})
        (sample,) = model.postprocess_result(logits, [sample])
        return sample.pred_sem_seg.data

    return model, predict


SEGMENTOR = "segmentor"
HEADS = {
    "Mask R-CNN": mask_rcnn,
    "SOLOv2": solov2,
    "Mask2Former": mask2former,
    SEGMENTOR: segmentor,
}


def _boxes(instances: int, longest: float) -> tuple[Tensor, Tensor]:
    """Corners and extents of boxes anywhere, horizontal and vertical, as parts of the image's."""
    extent = longest * (0.05 + 0.95 * torch.rand(instances, 2))
    return (1 - extent) * torch.rand(instances, 2), extent


def _discs(instances: int, longest_box: float, rows: int, columns: int) -> Tensor:
    """Logits (n, rows, columns) of discs in boxes."""
    corner, extent = _boxes(instances, longest_box)
    across, down = ((corner + extent / 2) / extent).mul(2).unbind(1)
    x = torch.linspace(0, 1, columns) * 2 / extent[:, :1] - across[:, None]
    y = torch.linspace(0, 1, rows) * 2 / extent[:, 1:] - down[:, None]
    return 4 * (1 - y[:, :, None] ** 2 - x[:, None] ** 2)


def _input_size(height: int, width: int) -> tuple[int, int]:
    """What the test pipeline makes of the image's size, in multiples of the stride."""
    scale = _INPUT_SIDE / max(height, width) / _STRIDE
    return tuple(max(1, round(side * scale)) * _STRIDE for side in (height, width))
