"""Checks of the network on a device, in all its forms, against float64 on the CPU."""

import math
from collections.abc import Callable, Iterator
from functools import cache, partial

import torch
from dev.benchmark.contenders import DTYPES
from dev.benchmark.plain_models import PlainXCiT
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from xcit_dense.engine import Engine

# what was measured, how much, and what is allowed
Finding = tuple[str, float, float]
Check = tuple[str, Callable[[], list[Finding]]]

FORMS = ("direct", "gram")
# every operation is in four blocks, and compilers take a time that grows with the depth
_ARCHS = {"shallow": dict(embed_dims=128, depth=4, num_heads=4, eta=1.0)}
# a gradient that is zero but for rounding, as of a bias before a norm, has no size of its own
_SMALLEST_SHARE = 1e-3


def network_checks(device: str, arch: str) -> Iterator[Check]:
    """Names and functions, the most telling ones first."""
    for form in FORMS:
        for dtype in DTYPES:
            yield f"{form}, {dtype}", partial(check_form, device, arch, form, dtype)
        with_cp = partial(check_form, device, arch, form, "fp32", with_cp=True)
        yield f"{form}, fp32, with_cp", with_cp
    yield "engine, tokens on the CPU", partial(check_engine, device, arch)


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
    exact_levels, exact_gradients = _exact(arch)
    error = relative_error(_levels(run, dtype), exact_levels)
    bound = 1e-5 if dtype == "fp32" else 30 * torch.finfo(DTYPES[dtype]).eps
    findings = [("levels", error, bound)]
    if dtype != "fp16":  # it needs a scaled loss
        found = _gradients(model, run, dtype)
        away = {name: (found[name] - exact_gradients[name]).norm().item() for name in found}
        size = {name: gradient.norm().item() for name, gradient in exact_gradients.items()}
        if dtype == "fp32":
            least = _SMALLEST_SHARE * max(size.values())
            worst = max(away[name] / max(size[name], least) for name in found)
            findings.append(("gradients, the worst parameter", worst, 1e-3))
        else:  # single small gradients are far off in any implementation
            whole = math.hypot(*away.values()) / math.hypot(*size.values())
            findings.append(("gradients, together", whole, bound))
    return findings


def check_engine(device: str, arch: str) -> list[Finding]:
    """Band by band with the tokens on the CPU, computed on the device."""
    model = random_backbone(arch, "gram").to(device).eval()
    with torch.no_grad():
        runner = Engine(model.trunk, model.pyramid, store_device="cpu")
        found = runner.levels(_image().to(device))
    return [("levels", relative_error(found, _exact(arch)[0]), 1e-5)]


@cache
def _exact(arch: str) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """Levels and gradients of the direct form in float64 on the CPU."""
    model = random_backbone(arch, "direct").double()
    return _levels(model, "fp32"), _gradients(model, model, "fp32")


def _levels(model: nn.Module, dtype: str) -> tuple[Tensor, ...]:
    """The pyramid in inference, on the model's device."""
    weight = next(model.parameters())
    low = dtype != "fp32"
    with torch.no_grad(), torch.autocast(weight.device.type, DTYPES[dtype], enabled=low):
        return model.eval()(_image().to(weight))


def _gradients(model: nn.Module, run: nn.Module, dtype: str) -> dict[str, Tensor]:
    """Gradients of one training step by name, in float64 on the CPU.

    Raises:
        ValueError: a parameter has none, or not a finite one.
    """
    weight = next(model.parameters())
    low = dtype != "fp32"
    model.train()
    with torch.autocast(weight.device.type, DTYPES[dtype], enabled=low):
        found = run(_image().to(weight))
    sum(level.to(weight).square().mean() for level in found).backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is None or not parameter.grad.isfinite().all():
            raise ValueError(f"{name} has no finite gradient")
    return {name: parameter.grad.double().cpu() for name, parameter in model.named_parameters()}


def relative_error(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> float:
    """The largest difference in units of a tensor's largest number; the worst tensor counts."""
    errors = []
    for one, other in zip(found, expected, strict=True):
        one, other = one.detach().cpu().double(), other.detach().cpu().double()
        error = ((one - other).abs().max() / other.abs().max()).item()
        errors.append(error if math.isfinite(error) else math.inf)
    return max(errors)


def random_backbone(arch: str, form: str, with_cp: bool = False) -> PlainXCiT:
    """A backbone that is the same for every form, with nothing at its neutral value."""
    torch.manual_seed(0)
    return randomize(PlainXCiT(_ARCHS.get(arch, arch), 16, form, with_cp))


def randomize(model: nn.Module) -> nn.Module:
    """Draw anew, in place, what starts as ones and zeros: a forgotten factor would go unnoticed."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, _BatchNorm | nn.LayerNorm | nn.GroupNorm):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.1)
            if isinstance(module, _BatchNorm):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
        for name, parameter in model.named_parameters():
            if "layer_scale" in name or "temperature" in name:
                parameter.uniform_(0.3, 1.2)
    return model


def _image() -> Tensor:
    """Two images, of a width that the patch does not divide."""
    return torch.randn(2, 3, 96, 120, generator=torch.Generator().manual_seed(1))
