"""Checks of the network on a device, in all its forms, against float64 on the CPU."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial

import torch
from dev.benchmark.contenders import DTYPES
from dev.benchmark.plain_models import PlainXCiT
from torch import Tensor, nn

from xcit_dense.engine import Engine

# what was measured, how much, and what is allowed
Finding = tuple[str, float, float]
Check = tuple[str, Callable[[], list[Finding]]]

FORMS = ("direct", "gram")
_FP32_BOUND = 2e-5
# every operation is in four blocks, and compilers take a time that grows with the depth
_ARCHS = {"shallow": dict(embed_dims=128, depth=4, num_heads=4, eta=1.0)}


def network_checks(device: str, arch: str) -> Iterator[Check]:
    """Names and functions, the most telling ones first."""
    for form in FORMS:
        for dtype in DTYPES:
            yield f"{form}, {dtype}", partial(check_form, device, arch, form, dtype)
        with_cp = partial(check_form, device, arch, form, "fp32", with_cp=True)
        yield f"{form}, fp32, with_cp", with_cp
    yield "engine, tokens on the CPU", partial(check_engine, device, arch)
    yield "engine, windows of 160 pixels", partial(check_engine, device, arch, window=160)


def compiler_checks(device: str, backend: str) -> Iterator[Check]:
    """What torch.compile makes of the network; these take the longest."""
    for form in FORMS:
        check = partial(check_form, device, "shallow", form, "fp32", backend=backend)
        yield f"{form}, fp32, compiled by {backend}", check


def check_form(
    device: str, arch: str, form: str, dtype: str, with_cp: bool = False, backend: str | None = None
) -> list[Finding]:
    """The pyramid of inference, and the gradients of a training step."""
    model = random_backbone(arch, form, with_cp).to(device)
    run = torch.compile(model, fullgraph=True, backend=backend) if backend else model
    levels, gradients = _exact(arch)
    bound = _FP32_BOUND if dtype == "fp32" else 30 * torch.finfo(DTYPES[dtype]).eps
    findings = [("levels", relative_error(_levels(model, run, dtype), levels), bound)]
    if dtype != "fp16":  # its gradients need a scaled loss
        away = _gradients(model, run, dtype) - gradients
        findings.append(("gradients", (away.norm() / gradients.norm()).item(), bound))
    return findings


def check_engine(device: str, arch: str, window: int | None = None) -> list[Finding]:
    """Band by band with the tokens on the CPU, computed on the device."""

    def levels(model: PlainXCiT) -> tuple[Tensor, ...]:
        engine = Engine(model.trunk, model.pyramid, store_device="cpu", window=window)
        return _levels(model, engine.levels, "fp32")

    model = random_backbone(arch, "gram").eval()
    found = levels(model.to(device))
    exact = levels(model.to("cpu", torch.float64)) if window else _exact(arch)[0]
    return [("levels", relative_error(found, exact), 1e-5)]


def random_backbone(arch: str, form: str, with_cp: bool = False) -> PlainXCiT:
    """A backbone that is the same for every form, with nothing at its neutral value.

    With norms, layer scales and temperatures of one and zero, as they start, a forgotten factor
    would go unnoticed.
    """
    torch.manual_seed(0)
    model = PlainXCiT(_ARCHS.get(arch, arch), 16, form, with_cp)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point() and tensor.ndim not in (2, 4):  # not the weights of products
            tensor.add_(0.3 * torch.rand_like(tensor))
    return model


def relative_error(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The largest difference in units of a tensor's largest number; the worst tensor counts."""
    errors = []
    for one, other in zip(found, expected, strict=True):
        one, other = one.detach().cpu().double(), other.detach().cpu().double()
        error = ((one - other).abs().max() / other.abs().max()).item()
        errors.append(error if math.isfinite(error) else math.inf)
    return max(errors)


@cache
def _exact(arch: str) -> tuple[tuple[Tensor, ...], Tensor]:
    """Levels and gradients of the direct form in float64 on the CPU."""
    model = random_backbone(arch, "direct").double()
    return _levels(model, model, "fp32"), _gradients(model, model, "fp32")


@torch.no_grad()
def _levels(model: nn.Module, run: Callable, dtype: str) -> tuple[Tensor, ...]:
    model.eval()
    return _forward(model, run, dtype)


def _gradients(model: nn.Module, run: Callable, dtype: str) -> Tensor:
    """Of one training step, of all parameters, in a row."""
    model.train()
    sum(level.double().square().mean() for level in _forward(model, run, dtype)).backward()
    gradients = [
        torch.full_like(p, math.nan) if p.grad is None else p.grad for p in model.parameters()
    ]
    return torch.cat([gradient.double().cpu().flatten() for gradient in gradients])


def _forward(model: nn.Module, run: Callable, dtype: str) -> tuple[Tensor, ...]:
    """Run for two images, of a width that the patch does not divide."""
    image = torch.randn(2, 3, 224, 312, generator=torch.Generator().manual_seed(1))
    image = image.to(next(model.parameters()))
    with torch.autocast(image.device.type, DTYPES[dtype], enabled=dtype != "fp32"):
        return run(image)
