"""Checks on a device of what needs OpenMMLab: a detector, a segmentor, the served ops of mmcv."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from dev.gpu_check.network_checks import Check, Finding, relative_error, shift
from torch import Tensor, nn

import xcit_dense  # noqa: F401  (first: it serves the ops that mmcv may lack)

# isort: split
from mmcv import ops
from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

_CONFIGS = Path(__file__).parents[3] / "configs" / "demo"


def openmmlab_checks(device: str) -> Iterator[Check]:
    """Names and functions."""
    for name in ("xcit_maskrcnn_demo", "xcit_upernet_demo"):
        yield name, partial(check_model, device, _CONFIGS / f"{name}.py")
    for name, (op, operands) in served_ops().items():
        yield f"mmcv {name}", partial(check_op, device, op, operands)


def check_model(device: str, config: Path) -> list[Finding]:
    """A prediction in the gram form against the CPU's in the direct form; a training step."""
    data = demo_mm_inputs(2, (3, 192, 256), [4, 4], 5, with_mask=True, with_semantic=True)
    for sample in data["data_samples"]:
        sample.gt_sem_seg.data = sample.gt_sem_seg.sem_seg.long()  # mmseg's name
    model = _build(config, "gram").to(device)
    with torch.no_grad():
        found, expected = (
            one.eval().test_step(data)[0].cpu() for one in (model, _build(config, "direct"))
        )
    if "pred_sem_seg" in expected:
        apart = (found.pred_sem_seg.data != expected.pred_sem_seg.data).double().mean()
        classes = len(expected.pred_sem_seg.data.unique())
        findings = [(f"share of pixels, of {classes} classes", apart.item(), 1e-3)]
    else:
        # detections of nearly equal scores may change places: each looks for its nearest
        away = torch.cdist(found.pred_instances.bboxes, expected.pred_instances.bboxes)
        pixels = max(away.amin(0).max().item(), away.amin(1).max().item())
        findings = [(f"pixels between {len(away)} boxes", pixels, 0.5)]
    model.train()
    losses = model(**model.data_preprocessor(data, True), mode="loss")
    model.parse_losses(losses)[0].backward()
    wrong = [p for p in model.parameters() if p.grad is None or not p.grad.isfinite().all()]
    return [*findings, ("parameters without a finite gradient", len(wrong), 0)]


def _build(config: Path, attention: str) -> nn.Module:
    cfg = Config.fromfile(config)
    cfg.model.backbone.attention = attention
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    model = shift(MODELS.build(cfg.model))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # a random head gives all classes the same score; much larger it has favourites
            if name.endswith(("fc_cls.weight", "rpn_cls.weight")):
                parameter.mul_(30)
    return model


def check_op(device: str, op: Callable, operands: list[Tensor]) -> list[Finding]:
    """Outputs and gradients in float32 on the device, against float64 on the CPU."""
    found = _outputs_and_gradients(op, operands, device, torch.float32)
    expected = _outputs_and_gradients(op, operands, "cpu", torch.float64)
    return [("outputs and gradients", relative_error(found, expected), 1e-4)]


def _outputs_and_gradients(
    op: Callable, operands: list[Tensor], device: str, dtype: torch.dtype
) -> list[Tensor]:
    inputs = [
        operand.to(device, dtype, copy=True).requires_grad_()
        if operand.is_floating_point()
        else operand.to(device)
        for operand in operands
    ]
    result = op(*inputs)
    outputs = [*result] if isinstance(result, tuple | list) else [result]
    for output in outputs:
        if output.requires_grad:
            # weights that differ: a sum alone would not notice gradients at the wrong places
            output.backward(torch.linspace(-1, 2, output.numel()).to(output).view_as(output))
    return outputs + [tensor.grad for tensor in inputs if tensor.grad is not None]


def served_ops() -> dict[str, tuple[Callable, list[Tensor]]]:
    """Functions of mmcv by name, with operands in float64."""
    generator = torch.Generator().manual_seed(0)

    def rand(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    corners, scores = rand(60, 2) * 60, rand(60)
    boxes = torch.cat([corners, corners + rand(60, 2) * 30 + 4], dim=1).round(decimals=2)
    rois = torch.cat([torch.arange(60)[:, None] % 2, boxes], dim=1)
    maps, image, weight = rand(2, 8, 24, 24), rand(2, 4, 9, 8), rand(6, 4, 3, 3) - 0.5
    offset, mask = rand(2, 18, 9, 8) * 3 - 1.5, rand(2, 9, 9, 8)
    shapes, starts = torch.tensor([[12, 16], [6, 8]]), torch.tensor([0, 192])
    places, shares = rand(2, 20, 4, 2, 3, 2) * 1.4 - 0.2, rand(2, 20, 4, 2, 3)
    classes = torch.arange(40) % 11  # 10 stands for the background

    # what chooses among boxes has no gradients
    def suppress(op: Callable, boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        return op(boxes.detach(), scores.detach(), 0.4)

    def attend(value: Tensor, places: Tensor, shares: Tensor, *levels: Tensor) -> Tensor:
        return MultiScaleDeformableAttnFunction.apply(value, *levels, places, shares, 64)

    return {
        "nms": (partial(suppress, ops.nms), [boxes, scores]),
        "soft_nms": (partial(suppress, ops.soft_nms), [boxes, scores]),
        "roi_align": (
            lambda maps, rois: ops.roi_align(maps, rois.detach(), 7, 0.25, 2, "avg", True),
            [maps, rois],
        ),
        "roi_pool": (lambda maps, rois: ops.roi_pool(maps, rois.detach(), 7, 0.25), [maps, rois]),
        "deform_conv2d": (lambda *o: ops.deform_conv2d(*o, 1, 1), [image, offset, weight]),
        "modulated_deform_conv2d": (
            lambda *o: ops.modulated_deform_conv2d(*o, None, 1, 1),
            [image, offset, mask, weight],
        ),
        "multi-scale deformable attention": (
            attend,
            [rand(2, 240, 4, 8), places, shares, shapes, starts],
        ),
        "sigmoid_focal_loss": (
            lambda logits, classes: ops.sigmoid_focal_loss(
                logits, classes, 2.0, 0.25, None, "none"
            ),
            [rand(40, 10) * 6 - 3, classes],
        ),
        "carafe": (lambda *o: ops.carafe(*o, 3, 2, 2), [rand(2, 4, 6, 7), rand(2, 18, 12, 14)]),
    }
