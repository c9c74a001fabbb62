"""How a module calls its children: as what they are now, by the fastest way, keeping little."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.modules import module as nn_module
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrize import is_parametrized
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

# Below this, torch computes a convolution without oneDNN.
_SMALLEST_FOR_ONEDNN = 20_480
_PRODUCTS = [torch.ops.aten.mm.default, torch.ops.aten.addmm.default]
_GLOBAL_HOOKS = (
    nn_module._global_forward_hooks,
    nn_module._global_forward_pre_hooks,
    nn_module._global_backward_hooks,
    nn_module._global_backward_pre_hooks,
)


def is_traced() -> bool:
    """Whether a compiler or a tracer records what is computed, for other inputs."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def is_transformed() -> bool:
    """Whether a transform of ``torch.func`` (``grad``, ``vmap``, ...) is at work."""
    if torch.compiler.is_compiling():  # a compiler applies them itself
        return False
    return torch._C._functorch.peek_interpreter_stack() is not None


def is_untouched(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether calling a module does what its class says and nothing else.

    It does not where somebody has put hooks, a parametrization, a wrapper, a subclass, a compiler
    or a tensor of another kind into it, or hooks into all modules.

    Args:
        module: the module in question, without its children.
        kind: the class that it was built as.
    """
    return (
        type(module) is kind
        and "forward" not in module.__dict__
        and not is_parametrized(module)
        and module._compiled_call_impl is None
        and not module._forward_hooks
        and not module._forward_pre_hooks
        and not module._backward_hooks
        and not module._backward_pre_hooks
        and not any(_GLOBAL_HOOKS)
        and all(
            tensor is None or type(tensor) in (Tensor, nn.Parameter, FakeTensor)
            for tensor in module._parameters.values()
        )
    )


def linear(module: nn.Module, tokens: Tensor) -> Tensor:
    """``module(tokens)`` for a linear layer; (..., C_in) -> (..., C_out).

    On a CPU in float32 the tokens of an untouched ``nn.Linear`` pass as the pixels of a 1x1
    convolution: the same sum, computed by oneDNN, which uses the widest instructions of any
    maker's CPU. torch's matrix product there is MKL's, which on other than Intel's CPUs reaches
    half of that rate.
    """
    if not goes_through_onednn(tokens) or not is_untouched(module, nn.Linear):
        return module(tokens)
    return convolve_tokens(tokens, module.weight, module.bias)


def goes_through_onednn(tokens: Tensor) -> bool:
    """Whether a product with tokens (..., C) gains by being a convolution."""
    return (
        not is_traced()
        and tokens.device.type == "cpu"
        and tokens.dtype == torch.float32
        and tokens.numel() > _SMALLEST_FOR_ONEDNN
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.enabled
        and torch.backends.mkldnn.is_available()
    )


# With one thread torch takes another, slower way for 1x1 convolutions, unless they are dilated;
# which makes no difference to a kernel of one pixel.
DILATION = (2, 1)


def convolve_tokens(tokens: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Tokens (..., C_in) times weight (C_out, C_in), as a convolution, (..., C_out)."""
    pixels = F.conv2d(as_pixels(tokens), weight[:, :, None, None], bias, dilation=DILATION)
    return pixels.permute(0, 2, 3, 1).reshape(*tokens.shape[:-1], -1)


def as_pixels(tokens: Tensor) -> Tensor:
    """View tokens (..., C) as an image (1, C, 1, M) of one row, in channels-last."""
    return tokens.reshape(1, 1, -1, tokens.shape[-1]).permute(0, 3, 1, 2)


def may_compute_again(module: nn.Module) -> bool:
    """Whether parts of a module may be computed once more in backward, to keep less until then.

    Not where somebody has changed a child and could notice. Compilers: :func:`again_but_products`.
    """
    children = [child for child in module.modules() if child is not module]
    return (
        torch.is_grad_enabled()
        and not (is_traced() or is_transformed())
        and all(is_untouched(child, type(child)) for child in children)
    )


def again(function: Callable[..., Any], *inputs: Tensor, norms: nn.Module | None = None) -> Any:
    """``function(*inputs)``; of what it needs in backward only the inputs are kept.

    In backward it is computed again, but only until its last operation has its inputs: where that
    is a product behind a norm or an activation, the product is not computed twice.

    Args:
        function: what is computed.
        inputs: the tensors that it depends on, apart from parameters.
        norms: a module whose batch norms the function calls; they count a batch once.
    """
    contexts = {}
    if norms is not None and not torch.compiler.is_compiling():  # which updates them once anyway
        contexts["context_fn"] = lambda: (nullcontext(), _Counted(norms))
    return checkpoint(function, *inputs, use_reentrant=False, **contexts)


def again_but_products(function: Callable[..., Any], *inputs: Any) -> Any:
    """``function(*inputs)`` for compilers: they keep inputs and matrix products for backward."""
    keep_products = partial(create_selective_checkpoint_contexts, _PRODUCTS)
    return checkpoint(function, *inputs, use_reentrant=False, context_fn=keep_products)


class _Counted:
    """Keeps batch norms from counting a batch that they have already counted."""

    def __init__(self, module: nn.Module) -> None:
        norms = [m for m in module.modules() if isinstance(m, _BatchNorm)]
        self.norms = [norm for norm in norms if norm.track_running_stats]

    def __enter__(self) -> None:
        self.before = [(norm.momentum, norm.num_batches_tracked.clone()) for norm in self.norms]
        for norm in self.norms:
            norm.momentum = 0.0

    def __exit__(self, *_: Any) -> None:
        for norm, (momentum, num_batches) in zip(self.norms, self.before, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(num_batches)
