"""Optimizing for inference changes nothing but the time, and so do compilers and half precision."""

import copy
import pickle
import shutil

import pytest
import torch
from torch import nn

from xcit_dense import optimize_for_inference
from xcit_dense.engine import levels_by_engine
from xcit_dense.network import Pyramid, Trunk, resolve_arch

ARCH = dict(embed_dims=32, depth=4, num_heads=4, eta=0.5)
PLAIN, BY_ENGINE = (64, 96), (320, 480)  # how images of these sizes are computed


class Backbone(nn.Module):
    def __init__(self, patch_size=16, norm_layer=nn.BatchNorm2d):
        super().__init__()
        self.trunk = Trunk(resolve_arch(ARCH), patch_size, norm_layer=norm_layer)
        self.pyramid = Pyramid(32, patch_size, norm_layer)

    def forward(self, image):
        levels = levels_by_engine(self.trunk, self.pyramid, image)
        return self.pyramid(self.trunk(image), image.shape[-2:]) if levels is None else levels


def group_norm(width):
    return nn.GroupNorm(2, width)


NORMS = pytest.mark.parametrize("norm_layer", [nn.BatchNorm2d, group_norm])


def with_random_statistics(model):
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.5)
            nn.init.uniform_(module.running_var, 0.3, 3)
            nn.init.uniform_(module.weight, -1, 1)
            nn.init.normal_(module.bias)
    return model.eval()


def assert_same(found, expected, tolerance=2e-6):
    for level, want in zip(found, expected, strict=True):
        assert level.shape == want.shape
        assert (level.float() - want).abs().max() <= tolerance * want.abs().max()


@pytest.mark.parametrize("size", [PLAIN, BY_ENGINE])
@pytest.mark.parametrize("patch_size", [8, 16])
@NORMS
@torch.no_grad()
def test_outputs_stay_the_same(norm_layer, patch_size, size):
    model = nn.Sequential(with_random_statistics(Backbone(patch_size, norm_layer)))
    image = torch.randn(2, 3, *size)
    expected = model(image)
    assert optimize_for_inference(model) is model
    assert_same(model(image), expected)


@torch.no_grad()
def test_norms_and_scales_are_gone_and_twice_is_as_once():
    model = with_random_statistics(Backbone())
    before = sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    optimize_for_inference(model)
    after = sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert before - after == 5  # four of the stem, one of the pyramid
    assert not any("layer_scale" in name for name, _ in model.named_parameters())
    image = torch.randn(1, 3, *PLAIN)
    expected = model(image)
    for found, want in zip(optimize_for_inference(model)(image), expected, strict=True):
        assert torch.equal(found, want)


@pytest.mark.parametrize("size", [PLAIN, BY_ENGINE])
@NORMS
@torch.no_grad()
def test_an_optimized_model_can_be_copied_and_pickled_before_and_after_it_was_run(norm_layer, size):
    model = optimize_for_inference(with_random_statistics(Backbone(norm_layer=norm_layer)))
    image = torch.randn(1, 3, *size)
    for _ in range(2):
        copies = copy.deepcopy(model), pickle.loads(pickle.dumps(model))
        expected = model(image)
        for one in copies:
            assert all(torch.equal(a, b) for a, b in zip(one(image), expected, strict=True))


def test_a_model_without_xcit_is_an_error():
    with pytest.raises(ValueError, match="Linear has no XCiT inside"):
        optimize_for_inference(nn.Linear(2, 2))


@pytest.mark.parametrize("size", [PLAIN, BY_ENGINE])
def test_training_after_eval_sees_new_weights(size):
    model, image = with_random_statistics(Backbone()), torch.randn(1, 3, *size)
    with torch.no_grad():
        before = model(image)
    optimizer = torch.optim.SGD(model.train().parameters(), lr=0.1)
    sum(level.square().mean() for level in model(image)).backward()
    optimizer.step()
    fresh = Backbone().eval()
    fresh.load_state_dict(model.state_dict())
    with torch.no_grad():
        after, expected = model.eval()(image), fresh(image)
    for level in range(4):
        assert not torch.allclose(after[level], before[level])
        assert torch.equal(after[level], expected[level])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("optimized", [True, False])
@torch.no_grad()
def test_autocast_and_half_stay_near_to_single_precision(dtype, optimized):
    model = with_random_statistics(Backbone())
    image = torch.randn(1, 3, *BY_ENGINE)
    expected = model(image)
    if optimized:
        optimize_for_inference(model)
    with torch.autocast("cpu", dtype):
        assert_same(model(image), expected, 30 * torch.finfo(dtype).eps)
    in_half = model.to(dtype)(image.to(dtype))
    assert_same(in_half, expected, 30 * torch.finfo(dtype).eps)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@torch.no_grad()
def test_compiles_whole_with_dynamic_sizes():
    torch._dynamo.reset()
    statistics = torch._dynamo.utils.counters["stats"]
    before = statistics["unique_graphs"]
    model = with_random_statistics(Backbone())
    compiled = torch.compile(model, fullgraph=True, dynamic=True)
    for size in [(224, 288), (288, 224), (256, 320), (230, 270), (250, 333)]:
        image = torch.randn(1, 3, *size)
        assert_same(compiled(image), model(image))
    assert statistics["unique_graphs"] <= before + 3  # not one for each size
