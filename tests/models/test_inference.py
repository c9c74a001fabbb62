"""Optimizing for inference changes nothing but the time."""

import shutil
import warnings

import pytest
import torch
from torch import nn

from xcit_dense import optimize_for_inference
from xcit_dense.models import Pyramid, Trunk, resolve_arch
from xcit_dense.ops import pad_to_multiple

ARCH = dict(embed_dims=32, depth=4, num_heads=4, eta=0.5)


class Backbone(nn.Module):
    def __init__(self, patch_size=16, norm_layer=nn.BatchNorm2d):
        super().__init__()
        self.trunk = Trunk(resolve_arch(ARCH), patch_size, norm_layer=norm_layer)
        self.pyramid = Pyramid(32, patch_size, norm_layer)

    def forward(self, image):
        return self.pyramid(self.trunk(image), image.shape[-2:])


def with_random_statistics(model):
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.5)
            nn.init.uniform_(module.running_var, 0.3, 3)
            nn.init.uniform_(module.weight, -1, 1)
            nn.init.normal_(module.bias)
    return model.eval()


@pytest.mark.parametrize("patch_size", [8, 16])
@pytest.mark.parametrize("norm_layer", [nn.BatchNorm2d, lambda width: nn.GroupNorm(2, width)])
@torch.no_grad()
def test_outputs_stay_the_same(patch_size, norm_layer):
    model = nn.Sequential(with_random_statistics(Backbone(patch_size, norm_layer)))
    image = torch.randn(2, 3, 64, 96)
    expected = model(image)
    assert optimize_for_inference(model) is model
    for found, want in zip(model(image), expected, strict=True):
        assert (found - want).abs().max() <= 2e-6 * want.abs().max()


@torch.no_grad()
def test_norms_and_scales_are_gone_and_twice_is_as_once():
    model = with_random_statistics(Backbone())
    before = sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    optimize_for_inference(model)
    after = sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert before - after == 5  # four of the stem, one of the pyramid
    assert not any("layer_scale" in name for name, _ in model.named_parameters())
    image = torch.randn(1, 3, 64, 64)
    expected = model(image)
    for found, want in zip(optimize_for_inference(model)(image), expected, strict=True):
        torch.testing.assert_close(found, want, rtol=0, atol=1e-6)


def test_a_model_without_xcit_is_an_error():
    with pytest.raises(ValueError, match="Linear has no XCiT inside"):
        optimize_for_inference(nn.Linear(2, 2))


@pytest.mark.parametrize("norm_layer", [nn.BatchNorm2d, lambda width: nn.GroupNorm(2, width)])
@torch.no_grad()
def test_eval_mode_computes_what_the_plain_modules_would(norm_layer, monkeypatch):
    """Folding, bands, scratch and caches against norm after convolution on the whole map."""
    model = with_random_statistics(Backbone(norm_layer=norm_layer))
    image = torch.randn(2, 3, 640, 480)
    monkeypatch.setattr("xcit_dense.ops.chunks._CPU_ELEMENTS", 10_000)  # many small pieces
    fast = model(image)
    with torch.enable_grad():  # the way that keeps all of this off
        plain = model(image)
    for found, want in zip(fast, plain, strict=True):
        assert (found - want).abs().max() <= 2e-6 * want.abs().max()


def test_training_after_eval_sees_new_weights():
    model = with_random_statistics(Backbone())
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = model(image)
    model.train()
    torch.optim.SGD(model.parameters(), lr=0.1).zero_grad()
    sum(level.square().mean() for level in model(image)).backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 0.1 * parameter.grad
    model.eval()
    with torch.no_grad():
        after = model(image)
    fresh = Backbone().eval()
    fresh.load_state_dict(model.state_dict())
    with torch.no_grad():
        expected = fresh(image)
    for level in range(4):
        assert not torch.allclose(after[level], before[level])
        torch.testing.assert_close(after[level], expected[level])


@torch.no_grad()
def test_hooks_keep_what_they_have_seen():
    model = with_random_statistics(Backbone())
    image = torch.randn(1, 3, 64, 64)
    seen, copies = [], []
    for block in model.trunk.blocks:
        block.register_forward_hook(lambda block, inputs, out: seen.append(out))
        block.register_forward_hook(lambda block, inputs, out: copies.append(out.clone()))
    model(image)
    assert len(seen) == 4
    assert all(torch.equal(out, copy) for out, copy in zip(seen, copies, strict=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_autocast_and_half_stay_near_to_single_precision(dtype):
    model = with_random_statistics(Backbone())
    image = torch.randn(1, 3, 320, 480)
    expected = model(image)
    with torch.autocast("cpu", dtype):
        under_autocast = model(image)
    in_half = model.to(dtype)(image.to(dtype))
    for found in (under_autocast, in_half):
        for level, want in zip(found, expected, strict=True):
            assert (level.float() - want).abs().max() <= 30 * torch.finfo(
                dtype
            ).eps * want.abs().max()


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@torch.no_grad()
def test_compiles_whole_with_dynamic_sizes():
    model = with_random_statistics(Backbone())
    compiled = torch.compile(model, fullgraph=True, dynamic=True)
    graphs = []
    for size in [(160, 192), (192, 160), (224, 288), (250, 150)]:
        image = pad_to_multiple(torch.randn(1, 3, *size), 32)
        for found, want in zip(compiled(image), model(image), strict=True):
            assert (found - want).abs().max() <= 2e-6 * want.abs().max()
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert graphs[-1] <= 2  # not one for each size


@torch.no_grad()
def test_a_tracer_sees_plain_operators():
    model = with_random_statistics(Backbone())
    image = torch.randn(1, 3, 320, 480)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns that sizes become constants
        traced = torch.jit.trace(model, image, check_trace=False)
    assert "mkldnn" not in str(traced.inlined_graph)
    other = torch.randn(1, 3, 320, 480)
    for found, want in zip(traced(other), model(other), strict=True):
        assert (found - want).abs().max() <= 2e-6 * want.abs().max()
