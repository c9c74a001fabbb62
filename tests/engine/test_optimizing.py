"""Optimizing for inference changes nothing but the time, and so do compilers and half precision."""

import copy
import pickle

import pytest
import torch
from small_backbone import Backbone, difference, loss_of
from torch import nn

from xcit_dense import optimize_for_inference

PLAIN, BY_ENGINE = (64, 96), (320, 480)  # how images of these sizes are computed
SIZES = pytest.mark.parametrize("size", [PLAIN, BY_ENGINE])
NORMS = pytest.mark.parametrize(
    "norm_layer", [nn.BatchNorm2d, lambda width: nn.GroupNorm(2, width)]
)


def build(**options):
    return Backbone("auto", **options)


@SIZES
@pytest.mark.parametrize("patch_size", [8, 16])
@NORMS
@torch.no_grad()
def test_outputs_stay_the_same(norm_layer, patch_size, size):
    model = nn.Sequential(build(patch_size=patch_size, norm_layer=norm_layer))
    image = torch.randn(2, 3, *size)
    expected = model(image)
    assert optimize_for_inference(model) is model
    assert difference(model(image), expected) <= 2e-6


@torch.no_grad()
def test_norms_and_scales_are_gone_and_twice_is_as_once():
    model = build()
    before = sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    optimize_for_inference(model)
    after = sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert before - after == 5  # four of the stem, one of the pyramid
    assert not any("layer_scale" in name for name, _ in model.named_parameters())
    image = torch.randn(1, 3, *PLAIN)
    expected = model(image)
    assert difference(optimize_for_inference(model)(image), expected) == 0


@SIZES
@NORMS
@torch.no_grad()
def test_an_optimized_model_can_be_copied_and_pickled_before_and_after_it_was_run(norm_layer, size):
    model = optimize_for_inference(build(norm_layer=norm_layer))
    image = torch.randn(1, 3, *size)
    for _ in range(2):
        copies = copy.deepcopy(model), pickle.loads(pickle.dumps(model))
        expected = model(image)
        for one in copies:
            assert difference(one(image), expected) == 0


def test_a_model_without_xcit_is_an_error():
    with pytest.raises(ValueError, match="Linear has no XCiT inside"):
        optimize_for_inference(nn.Linear(2, 2))


@SIZES
def test_training_after_eval_sees_new_weights(size):
    model, image = build(), torch.randn(1, 3, *size)
    with torch.no_grad():
        before = model(image)
    optimizer = torch.optim.SGD(model.train().parameters(), lr=0.1)
    loss_of(model(image)).backward()
    optimizer.step()
    fresh = build()
    fresh.load_state_dict(model.state_dict())
    with torch.no_grad():
        after = model.eval()(image)
        assert difference(after, before) > 1e-4
        assert difference(after, fresh(image)) == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("optimized", [True, False])
@torch.no_grad()
def test_autocast_and_half_stay_near_to_single_precision(dtype, optimized):
    model, image = build(), torch.randn(1, 3, *BY_ENGINE)
    expected = model(image)
    if optimized:
        optimize_for_inference(model)
    with torch.autocast("cpu", dtype):
        assert difference(model(image), expected) <= 30 * torch.finfo(dtype).eps
    in_half = model.to(dtype)(image.to(dtype))
    assert difference(in_half, expected) <= 30 * torch.finfo(dtype).eps


@torch.no_grad()
def test_compiles_whole_with_dynamic_sizes():
    torch._dynamo.reset()
    statistics = torch._dynamo.utils.counters["stats"]
    before = statistics["unique_graphs"]
    model = build()
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    for size in [(224, 288), (288, 224), (256, 320), (250, 333)]:
        image = torch.randn(1, 3, *size)
        assert difference(compiled(image), model(image)) <= 2e-6
    assert statistics["unique_graphs"] <= before + 2  # another where the image is padded
