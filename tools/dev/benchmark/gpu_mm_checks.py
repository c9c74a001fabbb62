"""Checks on a device of what needs OpenMMLab: served mmcv ops, detectors and segmentors."""

from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from dev.benchmark.gpu_checks import Measured, NotRun
from dev.benchmark.gpu_models import Setup, randomize, relative_error
from torch import Tensor, nn

_CONFIGS = Path(__file__).parents[2] / "configs"
_LEVELS = ((12, 16), (6, 8), (3, 4))
_OP_BOUND = 1e-4  # of the largest entry, in float32, outputs and gradients
# A random head gives all classes the same score; this much larger it has favourites.
_CONFIDENCE = 30.0


def openmmlab_checks(setup: Setup) -> Iterator[tuple[str, Callable[[], Measured]]]:
    """Names and functions; each raises NotRun where a library is missing."""
    yield "predictions of Mask R-CNN", partial(mask_rcnn, setup)
    yield "predictions of UperNet", partial(upernet, setup)
    for name, make in _OPS.items():
        yield f"mmcv {name}", partial(served_op, setup, make)


def require(*names: str) -> list[Any]:
    """Import libraries.

    Raises:
        NotRun: one cannot be imported.
    """
    import_module("xcit_dense")  # first: it supplies the ops that mmcv may lack
    try:
        return [import_module(name) for name in names]
    except Exception as error:  # a library may also refuse a version of another
        raise NotRun(f"{type(error).__name__}: {error}") from error


def served_op(setup: Setup, make: Callable[[Any, Callable], tuple]) -> Measured:
    """Outputs and gradients of an op in float32 on the device, against float64 on the CPU."""
    (ops,) = require("mmcv.ops")
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    op, operands = make(ops, random)
    found, expected = (
        _outputs_and_gradients(op, operands, device, dtype)
        for device, dtype in ((setup.device, torch.float32), ("cpu", torch.float64))
    )
    origin = find_spec("mmcv._ext").origin or ""
    by = "served by xcit_dense" if origin.startswith("xcit_dense") else "mmcv's own kernel"
    return Measured(max(relative_error(found, expected)), _OP_BOUND, by)


def _outputs_and_gradients(
    op: Callable, operands: list[Tensor], device: str, dtype: torch.dtype
) -> list[Tensor]:
    """Ops that choose among boxes have no gradients; for the others those of all operands."""
    inputs = [
        operand.to(device, dtype).requires_grad_()
        if operand.is_floating_point()
        else operand.to(device)
        for operand in operands
    ]
    result = op(*inputs)
    outputs = [*result] if isinstance(result, (tuple, list)) else [result]
    differentiable = [out for out in outputs if out.requires_grad]
    if differentiable:
        # weights that differ: a sum alone would not notice gradients at the wrong places
        sum(
            (out * torch.linspace(-1, 2, out.numel()).to(out).view_as(out)).sum()
            for out in differentiable
        ).backward()
    gradients = [tensor.grad for tensor in inputs if tensor.grad is not None]
    return outputs + gradients


def _boxes(random: Callable) -> Tensor:
    corner, size = random(60, 2) * 60, random(60, 2) * 30 + 4
    return torch.cat([corner, corner + size], dim=1).round(decimals=2)


def _rois(random: Callable) -> Tensor:
    return torch.cat([torch.arange(60)[:, None] % 2, _boxes(random)], dim=1)


def _nms(ops: Any, random: Callable) -> tuple:
    return lambda *o: ops.nms(*(t.detach() for t in o), 0.4), [_boxes(random), random(60)]


def _soft_nms(ops: Any, random: Callable) -> tuple:
    return lambda *o: ops.soft_nms(*(t.detach() for t in o), 0.4), [_boxes(random), random(60)]


def _roi_align(ops: Any, random: Callable) -> tuple:
    operands = [random(2, 8, 24, 24), _rois(random)]
    return lambda maps, rois: ops.roi_align(maps, rois.detach(), 7, 0.25, 2, "avg", True), operands


def _roi_pool(ops: Any, random: Callable) -> tuple:
    operands = [random(2, 8, 24, 24), _rois(random)]
    return lambda maps, rois: ops.roi_pool(maps, rois.detach(), 7, 0.25), operands


def _deform_conv(ops: Any, random: Callable) -> tuple:
    operands = [random(2, 4, 9, 8), random(2, 18, 9, 8) * 3 - 1.5, random(6, 4, 3, 3) - 0.5]
    return lambda *o: ops.deform_conv2d(*o, 1, 1), operands


def _modulated_deform_conv(ops: Any, random: Callable) -> tuple:
    offset, mask = random(2, 18, 9, 8) * 3 - 1.5, random(2, 9, 9, 8)
    operands = [random(2, 4, 9, 8), offset, mask, random(6, 4, 3, 3) - 0.5, random(6)]
    return lambda *o: ops.modulated_deform_conv2d(*o, 1, 1), operands


def _deformable_attention(ops: Any, random: Callable) -> tuple:
    shapes = torch.tensor(_LEVELS)
    ends = shapes.prod(dim=1).cumsum(0)
    starts = torch.cat((ends.new_zeros(1), ends[:-1]))
    value, samples = random(2, int(ends[-1]), 4, 8), (2, 20, 4, len(_LEVELS), 3)
    operands = [value, random(*samples, 2) * 1.4 - 0.2, random(*samples), shapes, starts]
    function = import_module("mmcv.ops.multi_scale_deform_attn").MultiScaleDeformableAttnFunction
    return lambda v, at, w, sizes, starts: function.apply(v, sizes, starts, at, w, 64), operands


def _focal_loss(ops: Any, random: Callable) -> tuple:
    target = torch.arange(40) % 11  # 10 stands for the background
    return lambda x, t: ops.sigmoid_focal_loss(x, t, 2.0, 0.25, None, "none"), [
        random(40, 10) * 6 - 3,
        target,
    ]


def _carafe(ops: Any, random: Callable) -> tuple:
    return lambda *o: ops.carafe(*o, 3, 2, 2), [random(2, 4, 6, 7), random(2, 18, 12, 14)]


def _masked_conv(ops: Any, random: Callable) -> tuple:
    def convolve(image: Tensor, mask: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        # no gradients: the layer is made for inference
        operands = (t.detach() for t in (image, mask, weight, bias))
        return ops.masked_conv.masked_conv2d(*operands, 1)

    return convolve, [random(1, 3, 9, 8), random(1, 9, 8).round(), random(4, 3, 3, 3), random(4)]


_OPS = {
    "nms": _nms,
    "soft_nms": _soft_nms,
    "roi_align": _roi_align,
    "roi_pool": _roi_pool,
    "deform_conv2d": _deform_conv,
    "modulated_deform_conv2d": _modulated_deform_conv,
    "multi-scale deformable attention": _deformable_attention,
    "sigmoid_focal_loss": _focal_loss,
    "carafe": _carafe,
    "masked_conv2d": _masked_conv,
}


@torch.no_grad()
def mask_rcnn(setup: Setup) -> Measured:
    """The detections on the device (gram form) against those of the CPU (direct form)."""
    found, expected = (
        model.test_step(_sample("mmdet.structures", "DetDataSample"))[0].pred_instances.cpu()
        for model in _pair(setup, "xcit_maskrcnn_coco.py", "mmdet")
    )
    counts = f"{len(found)} detections, on the CPU {len(expected)}"
    if len(found) != len(expected) or not len(expected):
        return Measured(float("inf"), 0.05, counts)
    # detections of nearly equal scores may change places: each looks for its nearest of its class
    distance = (found.bboxes[:, None] - expected.bboxes).abs().amax(-1)
    distance[found.labels[:, None] != expected.labels] = float("inf")
    score = (found.scores.sort()[0] - expected.scores.sort()[0]).abs().max()
    note = f"{counts}; pixels to the nearest box; scores within {score:.1e}"
    return Measured(max(distance.amin(d).max().item() for d in (0, 1)), 0.05, note)


@torch.no_grad()
def upernet(setup: Setup) -> Measured:
    """The share of pixels whose class on the device (gram form) is not the CPU's (direct form)."""
    found, expected = (
        model.test_step(_sample("mmseg.structures", "SegDataSample"))[0].pred_sem_seg.data.cpu()
        for model in _pair(setup, "xcit_upernet_ade20k.py", "mmseg")
    )
    differing = (found != expected).double().mean().item()
    return Measured(
        differing, 1e-3, f"{len(expected.unique())} classes in {expected.numel()} pixels"
    )


def _pair(setup: Setup, config: str, library: str) -> Iterator[nn.Module]:
    """The same small model on the device and on the CPU."""
    if not (_CONFIGS / config).exists():
        raise NotRun(f"no configs/{config} beside the package")
    require(library, f"{library}.models")
    for attention, device in (("gram", setup.device), ("direct", "cpu")):
        yield _build(_CONFIGS / config, attention).to(device)


def _build(config: Path, attention: str) -> nn.Module:
    from mmengine.config import Config
    from mmengine.registry import MODELS, init_default_scope

    cfg = Config.fromfile(config)
    cfg.model.backbone.update(arch="nano_12", patch_size=8, attention=attention)
    for part in ("neck", "decode_head", "auxiliary_head"):
        if "in_channels" in cfg.model.get(part, {}):
            wanted = cfg.model[part].in_channels
            cfg.model[part].in_channels = [128] * 4 if isinstance(wanted, list) else 128
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    model = randomize(MODELS.build(cfg.model)).eval()
    for name, parameter in model.named_parameters():
        if name.endswith(("fc_cls.weight", "rpn_cls.weight")):
            parameter.mul_(_CONFIDENCE)
    return model


def _sample(structures: str, kind: str) -> dict[str, list]:
    height, width = 192, 256
    image = torch.randint(0, 256, (3, height, width), generator=torch.Generator().manual_seed(3))
    meta = dict(img_shape=(height, width), ori_shape=(height, width), scale_factor=(1.0, 1.0))
    sample = getattr(import_module(structures), kind)(metainfo=meta)
    return dict(inputs=[image.to(torch.uint8)], data_samples=[sample])
