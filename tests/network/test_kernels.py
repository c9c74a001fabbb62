"""What a block asks of a GPU, counted on tensors without data: no more than timm's XCiT does."""

from contextlib import contextmanager

import pytest
import torch
from timm.models.xcit import XCABlock
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from xcit_dense.network import Block

BATCH, CHANNELS, HEADS, SIDE = 2, 384, 8, 64
PRECISIONS = {
    "float32": (torch.float32, None),
    "bfloat16": (torch.bfloat16, None),
    "float16": (torch.float16, None),
    "autocast to bfloat16": (torch.float32, torch.bfloat16),
    "autocast to float16": (torch.float32, torch.float16),
}
# The gram form works on C x C matrices in float32 besides, and turns weights of another type into
# it. On a GPU it is taken by those only who ask for it.
MOST_KERNELS = {
    "direct": dict.fromkeys(PRECISIONS, 1.0),
    "gram": dict.fromkeys(PRECISIONS, 1.1) | {"float32": 1.25, "bfloat16": 1.65, "float16": 1.65},
}


class Kernels(TorchDispatchMode):
    """Counts operations that are no views, and the bytes that they read and write."""

    def __init__(self):
        super().__init__()
        self.count = self.bytes = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        out = operation(*args, **(kwargs or {}))
        is_view = any(r.alias_info and not r.alias_info.is_write for r in operation._schema.returns)
        tensors = [t for t in tree_leaves((args, kwargs, out)) if isinstance(t, torch.Tensor)]
        made = any(isinstance(t, torch.Tensor) for t in tree_leaves(out))
        if made and not is_view and operation is not torch.ops.aten._unsafe_view.default:
            self.count += 1
            self.bytes += sum(tensor.nbytes for tensor in tensors)
        return out


@contextmanager
def autocast_on_cuda(dtype):
    """torch.autocast turns itself off where there is no GPU."""
    torch.set_autocast_enabled("cuda", dtype is not None)
    torch.set_autocast_dtype("cuda", dtype or torch.float16)
    try:
        yield
    finally:
        torch.set_autocast_enabled("cuda", False)
        torch.clear_autocast_cache()


def kernels_of(make, precision, training):
    dtype, autocast = PRECISIONS[precision]
    block = make().to(dtype).train(training)
    with FakeTensorMode(allow_non_fake_inputs=True), autocast_on_cuda(autocast):

        def fake(tensor):
            empty = torch.empty(tensor.shape, dtype=tensor.dtype, device="cuda")
            return nn.Parameter(empty) if isinstance(tensor, nn.Parameter) else empty

        tensors = {**dict(block.named_parameters()), **dict(block.named_buffers())}
        state = {name: fake(tensor) for name, tensor in tensors.items()}
        tokens = torch.empty(BATCH, SIDE * SIDE, CHANNELS, dtype=dtype, device="cuda")
        with torch.set_grad_enabled(training), Kernels() as kernels:
            out = torch.func.functional_call(block, state, (tokens, SIDE, SIDE))
    assert out.shape == tokens.shape
    assert out.device.type == "cuda"
    return kernels


@pytest.mark.parametrize("form", ["direct", "gram"])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("training", [False, True])
def test_kernels_and_bytes_of_a_forward_pass(form, precision, training):
    timm = kernels_of(lambda: XCABlock(CHANNELS, HEADS, qkv_bias=True), precision, training)
    ours = kernels_of(lambda: Block(CHANNELS, HEADS, attention=form), precision, training)
    allowed = MOST_KERNELS[form][precision] * timm.count
    assert ours.count <= allowed, (ours.count, timm.count)
    assert ours.bytes <= timm.bytes, (ours.bytes, timm.bytes)
