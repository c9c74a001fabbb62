"""Checks of the network on a device against float64 on the CPU.

Every check returns what it measured, the bound, and a note; it never judges itself.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache, partial
from typing import NamedTuple

import torch
from dev.benchmark.gpu_models import (
    FORMS,
    SHALLOW,
    Setup,
    random_backbone,
    relative_error,
    trunk_of_depth,
)
from dev.benchmark.kept_for_backward import bytes_kept_for_backward
from dev.benchmark.torch_settings import TORCH_DTYPES
from torch import Tensor, nn

from xcit_dense.engine import Engine

# Rounding errors of float32 and of the halves, the latter in units of their last digit.
_FP32_BOUND = 1e-5
_EPS_BOUND = 30
_GRADIENT_BOUND = 1e-3
# Gradients that are zero but for rounding (biases ahead of a batch norm) have no size of their own:
# they are measured by this share of the largest gradient of all.
_SMALLEST_SHARE = 1e-3
_WHOLE_PATCHES = ((2, 96, 128), (3, 160, 96))
_ANY_SIZES = ((2, 96, 120), (3, 150, 88))


class Measured(NamedTuple):
    """Outcome of a check: it passes where ``value <= bound``."""

    value: float
    bound: float
    note: str = ""


class NotRun(Exception):
    """A check cannot be made here; the message says why."""


def network_checks(setup: Setup) -> Iterator[tuple[str, Callable[[], Measured]]]:
    """Names and functions, the most telling ones first."""
    for form in FORMS:
        for dtype in ("fp32", "bf16", "fp16"):
            yield f"levels, {form}, {dtype}", partial(levels, setup, form, dtype)
    yield "engine, tokens on the CPU", partial(engine, setup)
    for form in FORMS:
        for dtype in ("fp32", "bf16"):
            yield f"gradients, {form}, {dtype}", partial(training_step, setup, form, dtype)
        yield f"gradients, {form}, with_cp", partial(checkpointed_step, setup, form)
        yield f"kept by a block, {form}", partial(kept_by_a_block, setup, form, False, 12)
        yield f"kept by a block, {form}, with_cp", partial(kept_by_a_block, setup, form, True, 1.1)


def compiler_checks(setup: Setup) -> Iterator[tuple[str, Callable[[], Measured]]]:
    """The checks of what ``torch.compile`` makes of the network, which take the longest."""
    # half precision takes other kernels on a GPU, and compiling is slow on a CPU
    dtypes = ("fp32", "bf16") if setup.device == "cuda" else ("fp32",)
    for form in FORMS:
        for dtype in dtypes:
            yield f"compiled levels, {form}, {dtype}", partial(compiled_levels, setup, form, dtype)
    # where the default compiler once failed, so it is the one that is asked even in a quick run
    odd = partial(compiled_levels, setup, "direct", "fp32", _ANY_SIZES, "inductor")
    yield "compiled levels, sizes that need padding", odd
    for form in FORMS if not setup.quick else ("direct",):
        yield f"compiled gradients, {form}, fp32", partial(compiled_step, setup, form)


def levels(setup: Setup, form: str, dtype: str) -> Measured:
    """The pyramid against the direct form in float64 on the CPU."""
    model = random_backbone(setup.arch, form).to(setup.device)
    with torch.no_grad(), _autocast(setup, dtype):
        found = model(setup.image().to(setup.device))
    errors = relative_error(found, _exact_levels(setup))
    return Measured(max(errors), _bound(dtype), f"by level {', '.join(f'{e:.1e}' for e in errors)}")


def compiled_levels(
    setup: Setup,
    form: str,
    dtype: str,
    sizes: Sequence[tuple[int, int, int]] = _WHOLE_PATCHES,
    compiler: str | None = None,
) -> Measured:
    """The compiled pyramid, for two sizes by one graph, against the same model without compiler."""
    torch._dynamo.reset()
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    model = random_backbone(SHALLOW, form).to(setup.device)
    compiler = compiler or setup.compiler
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend=compiler)
    errors = []
    for size in sizes:
        image = setup.image(*size).to(setup.device)
        with torch.no_grad(), _autocast(setup, dtype):
            errors += relative_error(compiled(image), model(image))
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"] - before
    return Measured(max(errors), _bound(dtype), f"{graphs} graph(s) by {compiler}")


def engine(setup: Setup) -> Measured:
    """Band by band with the tokens on the CPU, against the plain model on the device."""
    model = random_backbone(setup.arch, "gram").to(setup.device)
    image = setup.image().to(setup.device)
    with torch.no_grad():
        expected = model(image)
        found = Engine(model.trunk, model.pyramid, store_device="cpu").levels(image)
    return Measured(max(relative_error(found, expected)), _FP32_BOUND)


def training_step(setup: Setup, form: str, dtype: str) -> Measured:
    """Gradients of all parameters against a float64 step on the CPU.

    In half precision the gradient as a whole is measured: after twelve blocks of rounding, single
    entries of small gradients are far off in any implementation.
    """
    model = random_backbone(setup.arch, form).to(setup.device)
    found, expected = _gradients(model, setup, dtype), _exact_gradients(setup)
    by_parameter = _compare_gradients(found, expected, _GRADIENT_BOUND)
    if dtype == "fp32" or by_parameter.value == float("inf"):
        return by_parameter
    pairs = [(found[name].cpu().double(), wanted) for name, wanted in expected.items()]
    apart = sum((one - other).square().sum().item() for one, other in pairs)
    whole = sum(other.square().sum().item() for _, other in pairs)
    note = f"norm of the difference; by parameter {by_parameter.value:.2f}, {by_parameter.note}"
    return Measured((apart / whole) ** 0.5, _bound(dtype), note)


def checkpointed_step(setup: Setup, form: str) -> Measured:
    """Gradients with ``with_cp=True`` against those without."""
    found, expected = (
        _gradients(random_backbone(setup.arch, form, with_cp).to(setup.device), setup)
        for with_cp in (True, False)
    )
    return _compare_gradients(found, expected, _GRADIENT_BOUND / 10)


def compiled_step(setup: Setup, form: str) -> Measured:
    """Gradients of a compiled training step against those of the same model without compiler."""
    torch._dynamo.reset()
    model = random_backbone(SHALLOW, form).to(setup.device)
    expected = _gradients(model, setup)
    model.zero_grad(set_to_none=True)
    compiled = torch.compile(model, fullgraph=True, dynamic=False, backend=setup.compiler)
    return _compare_gradients(_gradients(model, setup, run=compiled), expected, _GRADIENT_BOUND)


def kept_by_a_block(setup: Setup, form: str, with_cp: bool, bound: float) -> Measured:
    """Memory that one block more keeps for backward, in tensors of N x C in float32."""
    width, side = (128, 32) if setup.quick else (384, 128)
    image = torch.randn(1, 3, 16 * side, 16 * side).to(setup.device)
    shallow, deep = (
        _bytes_kept(trunk_of_depth(depth, width, form, with_cp).to(setup.device), image)
        for depth in (4, 6)
    )
    return Measured((deep - shallow) / 2 / (side * side * width * 4), bound)


def _bytes_kept(trunk: nn.Module, image: Tensor) -> int:
    if not image.is_cuda:
        owned = [*trunk.parameters(), *trunk.buffers(), image]
        return bytes_kept_for_backward(lambda: trunk(image), owned)[0]
    trunk(image)  # libraries take their workspaces in the first run, and keep them
    before = torch.cuda.memory_allocated()
    maps = trunk(image)
    kept = torch.cuda.memory_allocated() - before
    del maps
    return kept


@cache
def _exact_levels(setup: Setup) -> list[Tensor]:
    with torch.no_grad():
        return list(random_backbone(setup.arch, "direct").double()(setup.image().double()))


@cache
def _exact_gradients(setup: Setup) -> dict[str, Tensor]:
    return _gradients(random_backbone(setup.arch, "direct").double(), setup)


def _gradients(
    model: nn.Module, setup: Setup, dtype: str = "fp32", run: nn.Module | None = None
) -> dict[str, Tensor]:
    """Gradients of one training step, by name; ``run`` computes in place of ``model``."""
    first = next(model.parameters())
    image = setup.image().to(first.device, first.dtype)
    model.train()
    with _autocast(setup, dtype):
        found = (model if run is None else run)(image)
    loss = sum(
        level.to(torch.promote_types(level.dtype, torch.float32)).square().mean() for level in found
    )
    loss.backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def _compare_gradients(
    found: dict[str, Tensor | None], expected: dict[str, Tensor], bound: float
) -> Measured:
    """The largest difference of any parameter, in units of that parameter's largest entry."""
    floor = _SMALLEST_SHARE * max(gradient.abs().max().item() for gradient in expected.values())
    worst, worst_name = 0.0, ""
    for name, wanted in expected.items():
        gradient = found[name]
        if gradient is None or not torch.isfinite(gradient).all():
            return Measured(float("inf"), bound, f"{name} has no gradient, or not a finite one")
        wanted = wanted.cpu().double()
        difference = (gradient.cpu().double() - wanted).abs().max().item()
        error = difference / max(wanted.abs().max().item(), floor)
        if error > worst:
            worst, worst_name = error, name
    return Measured(worst, bound, f"worst: {worst_name}" if worst_name else "all equal")


def _autocast(setup: Setup, dtype: str) -> AbstractContextManager:
    if dtype == "fp32":
        return nullcontext()
    return torch.autocast(setup.device, TORCH_DTYPES[dtype])


def _bound(dtype: str) -> float:
    return _FP32_BOUND if dtype == "fp32" else _EPS_BOUND * torch.finfo(TORCH_DTYPES[dtype]).eps
