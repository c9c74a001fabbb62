"""Layers that keep what they were given for backward, and compute what they made of it again."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from xcit_dense.ops.recording import is_traced


class Layer(Protocol):
    """A function of an input and weights whose gradients follow from the input and the weights."""

    def __call__(self, prepared: Tensor, *weights: Tensor | None) -> Any: ...

    def backward(
        self, grads: tuple[Tensor, ...], prepared: Tensor, *weights: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        """The gradients of ``prepared`` and of each weight."""


def after_cheap(
    cheap: Callable[[Tensor], Tensor],
    layer: Layer,
    source: Tensor,
    *weights: Tensor | None,
    cheap_parameters: Iterable[Tensor] = (),
    second_time: Callable[[], AbstractContextManager] = nullcontext,
) -> Any:
    """Compute ``layer(cheap(source), *weights)``; of the two inputs keep only ``source``.

    A convolution needs its input for its weight's gradient, and a norm or an activation before
    it needs its own: two tensors for one step. Here only the first is kept, and the second is
    computed again in backward. That costs little where ``cheap`` is a norm or an activation.

    Args:
        cheap: what is computed twice. It sees the same autocast both times.
        layer: what is computed once.
        source: input of ``cheap``.
        weights: further inputs of ``layer``.
        cheap_parameters: the tensors, besides ``source``, that ``cheap`` reads and that may want
            a gradient.
        second_time: makes a context in which ``cheap`` runs in backward.
    """
    if not torch.is_grad_enabled() or is_traced():
        return layer(cheap(source), *weights)  # a compiler decides by itself what to keep
    return _AfterCheap.apply(
        cheap, second_time, layer, len(weights), source, *weights, *cheap_parameters
    )


class _AfterCheap(torch.autograd.Function):
    @staticmethod
    def forward(ctx, cheap, second_time, layer, num_weights, source, *tensors):
        weights, parameters = tensors[:num_weights], tensors[num_weights:]
        ctx.save_for_backward(source, *weights)
        ctx.cheap, ctx.second_time, ctx.layer = cheap, second_time, layer
        ctx.cheap_parameters = parameters
        ctx.autocast = autocast_of(source)
        return layer(cheap(source), *weights)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads):
        source, *weights = ctx.saved_tensors
        wanted = [p for p in ctx.cheap_parameters if p.requires_grad]
        with ctx.autocast:
            with torch.enable_grad(), ctx.second_time():
                source = source.detach().requires_grad_(ctx.needs_input_grad[4])
                prepared = ctx.cheap(source)
            grad_prepared, *grad_weights = ctx.layer.backward(grads, prepared.detach(), *weights)
        inputs = [source, *wanted] if source.requires_grad else wanted
        found = iter(torch.autograd.grad(prepared, inputs, grad_prepared) if inputs else ())
        grad_source = next(found) if source.requires_grad else None
        grad_parameters = [next(found) if p.requires_grad else None for p in ctx.cheap_parameters]
        grad_weights = grad_weights[: len(weights)]
        return None, None, None, None, grad_source, *grad_weights, *grad_parameters


def autocast_of(tensor: Tensor) -> torch.autocast:
    """The autocast that is in force for the device of ``tensor``, to enter again later."""
    device_type = tensor.device.type
    return torch.autocast(
        device_type,
        dtype=torch.get_autocast_dtype(device_type),
        enabled=torch.is_autocast_enabled(device_type),
    )
