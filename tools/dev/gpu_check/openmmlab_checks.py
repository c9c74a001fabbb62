"""Checks on a device of what needs OpenMMLab: a detector, a segmentor, the served ops of mmcv."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from dev.gpu_check.network_checks import Check, Finding, relative_error
from torch import Tensor

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
    """A training step and a prediction, of random weights on random images."""
    cfg = Config.fromfile(config)
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model).to(device)
    data = demo_mm_inputs(2, (3, 192, 256), [4, 4], 5, with_mask=True, with_semantic=True)
    for sample in data["data_samples"]:
        sample.gt_sem_seg.data = sample.gt_sem_seg.sem_seg.long()  # mmseg's name
    losses = model(**model.data_preprocessor(data, True), mode="loss")
    model.parse_losses(losses)[0].backward()
    wrong = [p for p in model.parameters() if p.grad is None or not p.grad.isfinite().all()]
    with torch.no_grad():
        samples = model.eval().test_step(data)
    return [
        ("parameters without a finite gradient", len(wrong), 0),
        ("images without a prediction", len(data["inputs"]) - len(samples), 0),
    ]


def check_op(device: str, op: Callable, operands: list[Tensor]) -> list[Finding]:
    """Outputs and gradients in float32 on the device, against float64 on the CPU."""
    found = _outputs_and_gradients(op, operands, device, torch.float32)
    expected = _outputs_and_gradients(op, operands, "cpu", torch.float64)
    return [("outputs and gradients", relative_error(found, expected), 1e-4)]


def _outputs_and_gradients(
    op: Callable, operands: list[Tensor], device: str, dtype: torch.dtype
) -> list[Tensor]:
    inputs = [tensor.detach().to(device, copy=True) for tensor in operands]
    inputs = [t.to(dtype).requires_grad_() if t.is_floating_point() else t for t in inputs]
    result = op(*inputs)
    outputs = [*result] if isinstance(result, tuple | list) else [result]
    for output in outputs:
        if output.requires_grad:
            # weights that differ: a sum alone would not notice gradients at the wrong places
            output.backward(torch.linspace(-1, 2, output.numel()).to(output).view_as(output))
    return outputs + [tensor.grad for tensor in inputs if tensor.grad is not None]


def served_ops() -> dict[str, tuple[Callable, list[Tensor]]]:
    """Functions of mmcv whose stand-ins are more than arithmetic, with operands in float64."""
    generator = torch.Generator().manual_seed(0)

    def rand(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    corners, scores = rand(60, 2) * 60, rand(60)
    boxes = torch.cat([corners, corners + rand(60, 2) * 30 + 4], dim=1).round(decimals=2)
    rois = torch.cat([torch.arange(60)[:, None] % 2, boxes], dim=1)
    image, weight = rand(2, 4, 9, 8), rand(6, 4, 3, 3) - 0.5
    offset, mask = rand(2, 18, 9, 8) * 3 - 1.5, rand(2, 9, 9, 8)
    places, shares = rand(2, 20, 4, 2, 3, 2) * 1.4 - 0.2, rand(2, 20, 4, 2, 3)
    shapes, starts = torch.tensor([[12, 16], [6, 8]]), torch.tensor([0, 192])

    def suppress(boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        return ops.nms(boxes.detach(), scores.detach(), 0.4)

    def align(maps: Tensor, rois: Tensor) -> Tensor:
        return ops.roi_align(maps, rois.detach(), 7, 0.25, 2, "avg", True)

    def convolve(*operands: Tensor) -> Tensor:
        return ops.modulated_deform_conv2d(*operands, None, 1, 1)

    def attend(value: Tensor, places: Tensor, shares: Tensor, *levels: Tensor) -> Tensor:
        return MultiScaleDeformableAttnFunction.apply(value, *levels, places, shares, 64)

    return {
        "nms": (suppress, [boxes, scores]),
        "roi_align": (align, [rand(2, 8, 24, 24), rois]),
        "modulated_deform_conv2d": (convolve, [image, offset, mask, weight]),
        "ms_deform_attn": (attend, [rand(2, 240, 4, 8), places, shares, shapes, starts]),
    }
