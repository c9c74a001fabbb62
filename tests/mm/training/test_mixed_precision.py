"""Mixed precision on a CPU: what runs in which type, scaling, and states of other runs."""

import re

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn

from xcit_dense.mm.mixed_precision import MixedPrecisionOptimWrapper, default_dtype


def make(weights, **options):
    options = {"dtype": "bfloat16", "optimizer": torch.optim.SGD([weights], lr=1.0), **options}
    return OPTIM_WRAPPERS.build({"type": "MixedPrecisionOptimWrapper", **options})


def step(wrapper, weights, value=1.0):
    wrapper.update_params((weights * value).sum())


@pytest.fixture
def weights():
    return nn.Parameter(torch.ones(3))


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(None, torch.bfloat16), ("bf16", torch.bfloat16), ("fp16", torch.float16)],
)
def test_products_run_in_the_type_and_losses_in_float32(weights, dtype, expected):
    model = nn.Linear(4, 4)
    with make(weights, dtype=dtype).optim_context(model):
        out = model(torch.ones(2, 4))
        loss = nn.functional.cross_entropy(out, torch.tensor([0, 1]))
    assert (out.dtype, loss.dtype) == (expected, torch.float32)
    assert model(torch.ones(2, 4)).dtype == torch.float32


@pytest.mark.parametrize("supported", [True, False])
def test_the_default_is_float16_only_on_cuda_devices_without_bfloat16(monkeypatch, supported):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: supported)
    assert default_dtype("cuda") == (torch.bfloat16 if supported else torch.float16)
    assert default_dtype("cpu") == torch.bfloat16


def test_bfloat16_needs_no_scale(weights):
    wrapper = make(weights)
    assert not wrapper.loss_scaler.is_enabled()
    assert "loss_scaler" not in wrapper.state_dict()


@pytest.mark.parametrize("loss_scale", ["dynamic", 8, 8.0, {"init_scale": 8.0}])
def test_float16_steps_as_float32_does(weights, loss_scale):
    plain = nn.Parameter(weights.detach().clone())
    clip = {"max_norm": 1.0}
    step(make(weights, dtype="float16", loss_scale=loss_scale, clip_grad=dict(clip)), weights, 3.0)
    step(OptimWrapper(torch.optim.SGD([plain], lr=1.0), clip_grad=dict(clip)), plain, 3.0)
    assert torch.equal(weights, plain)


def test_an_overflow_is_left_out_and_halves_the_scale(weights):
    wrapper = make(weights, dtype="float16", loss_scale={"init_scale": 4.0})
    step(wrapper, weights, float("inf"))
    assert weights.tolist() == [1, 1, 1]
    assert wrapper.loss_scaler.get_scale() == 2.0


def test_a_fixed_scale_stays(weights):
    wrapper = make(weights, dtype="float16", loss_scale=8.0)
    step(wrapper, weights, float("inf"))
    assert wrapper.loss_scaler.get_scale() == 8.0


def test_gradients_accumulate(weights):
    wrapper = make(weights, dtype="float16", accumulative_counts=2, loss_scale=8.0)
    wrapper.initialize_count_status(nn.Linear(1, 1), 0, 4)
    step(wrapper, weights, 1.0)
    assert weights.tolist() == [1, 1, 1]
    step(wrapper, weights, 3.0)
    assert weights.tolist() == [-1, -1, -1]


def test_the_scale_is_saved_and_loaded(weights):
    first = make(weights, dtype="float16", loss_scale={"init_scale": 4.0})
    step(first, weights, float("inf"))
    state = first.state_dict()
    second = make(nn.Parameter(torch.ones(3)), dtype="float16")
    second.load_state_dict(state)
    assert second.loss_scaler.get_scale() == 2.0


@pytest.mark.parametrize("reader", ["bfloat16", "float16", None])
@pytest.mark.parametrize("writer", ["bfloat16", "float16", None])
def test_states_go_from_any_precision_to_any(writer, reader):
    def wrapper(dtype):
        weights = nn.Parameter(torch.ones(3))
        optimizer = torch.optim.AdamW([weights])
        if dtype is None:
            return OptimWrapper(optimizer), weights
        return MixedPrecisionOptimWrapper(optimizer=optimizer, dtype=dtype), weights

    written, weights = wrapper(writer)
    step(written, weights, 2.0)
    read, weights = wrapper(reader)
    read.load_state_dict(written.state_dict())
    assert read.optimizer.state[weights]["step"] == 1
    step(read, weights)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            {"dtype": "fp8"},
            "mixed precision in 'fp8': wanted one of bfloat16, bf16, float16, fp16",
        ),
        (
            {"loss_scale": "static"},
            "loss_scale='static': wanted 'dynamic', a number > 0 or a dict of arguments of "
            "torch.amp.GradScaler",
        ),
        (
            {"loss_scale": 0},
            "loss_scale=0: wanted 'dynamic', a number > 0 or a dict of arguments of "
            "torch.amp.GradScaler",
        ),
    ],
)
def test_wrong_options(weights, options, expected):
    with pytest.raises(ValueError, match=re.escape(expected)):
        make(weights, **options)
