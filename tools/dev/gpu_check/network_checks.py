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
    bound = 1e-5 if dtype == "fp32" else 30 * torch.finfo(DTYPES[dtype]).eps
    findings = [("levels", relative_error(_levels(model, run, dtype), exact_levels), bound)]
    if dtype == "fp16":  # its gradients need a scaled loss
        return findings
    found = _gradients(model, run, dtype)
    away = {name: (found[name] - exact_gradients[name]).norm().item() for name in found}
    size = {name: gradient.norm().item() for name, gradient in exact_gradients.items()}
    if dtype == "fp32":
        least = _SMALLEST_SHARE * max(size.values())
        worst = max(away[name] / max(size[name], least) for name in found)
        return [*findings, ("gradients, the worst parameter", worst, 1e-3)]
    # in half precision single small gradients are far off in any implementation
    whole = math.hypot(*away.values()) / math.hypot(*size.values())
    return [*findings, ("gradients, together", whole, bound)]


def check_engine(device: str, arch: str) -> list[Finding]:
    """Band by band with the tokens on the CPU, computed on the device."""
    model = random_backbone(arch, "gram").to(device).eval()
    with torch.no_grad():
        runner = Engine(model.trunk, model.pyramid, store_device="cpu")
        found = _forward(model, runner.levels, "fp32")
    return [("levels", relative_error(found, _exact(arch)[0]), 1e-5)]


def random_backbone(arch: str, form: str, with_cp: bool = False) -> PlainXCiT:
    """A backbone that is the same for every form, with nothing at its neutral value."""
    torch.manual_seed(0)
    return shift(PlainXCiT(_ARCHS.get(arch, arch), 16, form, with_cp))


def shift(model: nn.Module) -> nn.Module:
    """Move norms, layer scales and temperatures, in place, off the ones and zeros they start with.

    With those a forgotten factor would go unnoticed.
    """
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
def _exact(arch: str) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """Levels and gradients of the direct form in float64 on the CPU."""
    model = random_backbone(arch, "direct").double()
    return _levels(model, model, "fp32"), _gradients(model, model, "fp32")


@torch.no_grad()
def _levels(model: nn.Module, run: nn.Module, dtype: str) -> tuple[Tensor, ...]:
    model.eval()
    return _forward(model, run, dtype)


def _gradients(model: nn.Module, run: nn.Module, dtype: str) -> dict[str, Tensor]:
    """Of one training step, by name, in float64 on the CPU.

    Raises:
        ValueError: a parameter has none, or not a finite one.
    """
    model.train()
    sum(level.double().square().mean() for level in _forward(model, run, dtype)).backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is None or not parameter.grad.isfinite().all():
            raise ValueError(f"{name} has no finite gradient")
    return {name: parameter.grad.double().cpu() for name, parameter in model.named_parameters()}


def _forward(model: nn.Module, run: nn.Module, dtype: str) -> tuple[Tensor, ...]:
    """Run for two images, of a width that the patch does not divide."""
    image = torch.randn(2, 3, 224, 312, generator=torch.Generator().manual_seed(1))
    image = image.to(next(model.parameters()))
    with torch.autocast(image.device.type, DTYPES[dtype], enabled=dtype != "fp32"):
        return run(image)
