"""What is kept for backward, in units of one tensor of all tokens, and that it is enough."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch import nn

from xcit_dense.network import Block, Pyramid, Trunk, resolve_arch

BATCH, SIDE, CHANNELS, HEADS = 2, 32, 384, 8
ARCH = resolve_arch(dict(embed_dims=64, depth=6, num_heads=4, eta=0.5))
NORMS = pytest.mark.parametrize(
    "norm_layer", [nn.BatchNorm2d, lambda width: nn.GroupNorm(8, width)]
)
BOTH_FORMS = pytest.mark.parametrize("form", ["direct", "gram"])


def elements_kept(module, *inputs):
    """Elements of the storages that autograd holds, apart from parameters and buffers."""
    own = {tensor.data_ptr() for tensor in [*module.parameters(), *module.buffers()]}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = tensor, storage.nbytes() // 4
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = module(*inputs)
    assert all(tensor.requires_grad for tensor in (out if isinstance(out, list | tuple) else [out]))
    return sum(size for _, size in kept.values())


@pytest.mark.parametrize(("form", "most"), [("direct", 11.01), ("gram", 8.01)])
def test_a_block_keeps_few_tensors(form, most):
    tokens = torch.randn(BATCH, SIDE * SIDE, CHANNELS, requires_grad=True)
    less, all_of_it = (
        elements_kept(Block(CHANNELS, HEADS, attention=form, keep_less=less), tokens, SIDE, SIDE)
        for less in (True, False)
    )
    assert less < most * tokens.numel()
    assert less < all_of_it / 2


@BOTH_FORMS
def test_a_checkpointed_trunk_keeps_one_tensor_a_block(form):
    image, kept = torch.randn(2, 3, 256, 256), []
    for depth in (4, 12):
        arch = replace(ARCH, depth=depth, out_indices=(0, 1, 2, depth - 1))
        kept.append(elements_kept(Trunk(arch, with_cp=True, attention=form), image))
    assert (kept[1] - kept[0]) / 8 == pytest.approx(2 * 16 * 16 * 64, rel=0.02)


@pytest.mark.parametrize(("patch_size", "widths"), [(16, (8, 16, 32, 64)), (8, (16, 32, 64))])
def test_the_stem_keeps_the_image_and_the_outputs_of_its_convolutions(patch_size, widths):
    image = torch.randn(1, 3, 128, 128)
    outputs = [width * (128 >> stage) ** 2 for stage, width in enumerate(widths, start=1)]
    kept = elements_kept(Trunk(ARCH, patch_size).patch_embedding, image)
    assert kept <= 1.01 * (image.numel() + sum(outputs))


def test_upsampling_keeps_the_map_and_the_output_of_its_first_convolution():
    patches = torch.randn(1, 64, 8, 8, requires_grad=True)
    kept = elements_kept(Pyramid(64, 16).levels["0"], patches)
    assert kept <= 1.01 * (1 + 4) * patches.numel()


def with_random_weights(module):
    for name, parameter in module.named_parameters():
        if "scale" in name or "temperature" in name or "norm" in name:
            nn.init.uniform_(parameter, 0.3, 1)
    return module


def gradients(block, context=None):
    torch.manual_seed(1)
    tokens = torch.randn(2, 96, 64, requires_grad=True)
    with context or nullcontext():
        out = block(tokens, 8, 12)
    out.square().sum().backward()
    found = {name: parameter.grad for name, parameter in block.named_parameters()}
    return {"out": out, "tokens": tokens.grad, **found, **dict(block.named_buffers())}


def blocks(norm_layer, training, *settings, **kwargs):
    for setting in settings:
        torch.manual_seed(0)
        block = Block(64, 4, norm_layer=norm_layer, **setting, **kwargs)
        yield with_random_weights(block).train(training)


@NORMS
@BOTH_FORMS
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("autocast", [True, False])
def test_keeping_less_changes_nothing(norm_layer, form, training, autocast):
    settings = [dict(keep_less=less) for less in (True, False)]
    built = blocks(norm_layer, training, *settings, attention=form, drop_path_rate=0.5)
    context = torch.autocast("cpu", torch.bfloat16, enabled=autocast)
    less, all_of_it = (gradients(block, context) for block in built)
    for name, expected in all_of_it.items():
        assert torch.equal(less[name], expected), name


@BOTH_FORMS
def test_a_block_is_differentiable_twice(form):
    block = with_random_weights(Block(8, 2, attention=form)).double().eval()
    tokens = torch.randn(1, 12, 8, dtype=torch.float64, requires_grad=True)

    def run(tokens, *parameters):
        return block(tokens, 3, 4)

    assert torch.autograd.gradgradcheck(run, [tokens, *block.parameters()], fast_mode=True)


def backbone(**kwargs):
    torch.manual_seed(0)
    return nn.ModuleList([Trunk(ARCH, **kwargs), Pyramid(64, 16)]).train()


def run(model, image):
    trunk, pyramid = model
    return sum(level.square().mean() for level in pyramid(trunk(image), image.shape[-2:]))


@pytest.mark.parametrize("drop_path_rate", [0.0, 0.5])
@BOTH_FORMS
def test_checkpointed_equals_plain_and_statistics_count_a_batch_once(form, drop_path_rate):
    image, results = torch.randn(2, 3, 64, 96), []
    for with_cp in (True, False):
        model = backbone(with_cp=with_cp, attention=form, drop_path_rate=drop_path_rate)
        loss = run(model, image)
        before = {name: buffer.clone() for name, buffer in model.named_buffers()}
        assert {int(b) for name, b in before.items() if "num_batches" in name} == {1}
        loss.backward()
        for name, buffer in model.named_buffers():
            assert torch.equal(buffer, before[name]), name
        results.append([loss, *before.values(), *(p.grad for p in model.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("with_cp", [True, False])
def test_backward_twice_doubles_the_gradients_and_leaves_the_statistics(with_cp):
    model = backbone(with_cp=with_cp)
    loss = run(model, torch.randn(2, 3, 64, 96))
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    loss.backward(retain_graph=True)
    once = [parameter.grad.clone() for parameter in model.parameters()]
    loss.backward()
    for parameter, gradient in zip(model.parameters(), once, strict=True):
        torch.testing.assert_close(parameter.grad, 2 * gradient)
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, before[name]), name
