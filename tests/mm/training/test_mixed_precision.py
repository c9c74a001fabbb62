"""Mixed precision on a CPU: what runs in which type, scaling, and states of other runs."""

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn

from xcit_dense.errors import UserError

CLIP = {"max_norm": 1.0}


def make(weights, optimizer=None, dtype="float16", **options):
    optimizer = optimizer or torch.optim.SGD([weights], lr=1.0)
    kind = "MixedPrecisionOptimWrapper" if dtype != "float32" else "OptimWrapper"
    if dtype != "float32":
        options["dtype"] = dtype
    return OPTIM_WRAPPERS.build({"type": kind, "optimizer": optimizer, **options})


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
    wrapper = make(weights, dtype=dtype)
    with wrapper.optim_context(model):
        out = model(torch.ones(2, 4))
        loss = nn.functional.cross_entropy(out, torch.tensor([0, 1]))
    assert (out.dtype, loss.dtype) == (expected, torch.float32)
    assert model(torch.ones(2, 4)).dtype == torch.float32
    assert bool(wrapper.state_dict()["loss_scaler"]) == (dtype == "fp16")


@pytest.mark.parametrize("loss_scale", ["dynamic", 8, 8.0, {"init_scale": 8.0}])
def test_float16_steps_as_float32_does(weights, loss_scale):
    plain = nn.Parameter(weights.detach().clone())
    step(make(weights, loss_scale=loss_scale, clip_grad=dict(CLIP)), weights, 3.0)
    step(OptimWrapper(torch.optim.SGD([plain], lr=1.0), clip_grad=dict(CLIP)), plain, 3.0)
    assert torch.equal(weights, plain)


@pytest.mark.parametrize(("loss_scale", "expected"), [({"init_scale": 4.0}, 2.0), (8.0, 8.0)])
def test_an_overflow_is_left_out_and_halves_a_scale_that_is_not_fixed(
    weights, loss_scale, expected
):
    wrapper = make(weights, loss_scale=loss_scale)
    step(wrapper, weights, float("inf"))
    assert weights.tolist() == [1, 1, 1]
    assert wrapper.loss_scaler.get_scale() == expected
    resumed = make(nn.Parameter(torch.ones(3)))
    resumed.load_state_dict(wrapper.state_dict())
    assert resumed.loss_scaler.get_scale() == expected


def test_gradients_accumulate(weights):
    wrapper = make(weights, accumulative_counts=2, loss_scale=8.0)
    wrapper.initialize_count_status(nn.Linear(1, 1), 0, 4)
    step(wrapper, weights, 1.0)
    assert weights.tolist() == [1, 1, 1]
    step(wrapper, weights, 3.0)
    assert weights.tolist() == [-1, -1, -1]


@pytest.mark.parametrize(
    ("writer", "reader"), [("float16", "float32"), ("float32", "float16"), ("float16", "bfloat16")]
)
def test_states_go_from_any_precision_to_any(weights, writer, reader):
    written = make(weights, torch.optim.AdamW([weights]), dtype=writer)
    step(written, weights, 2.0)
    other = nn.Parameter(torch.ones(3))
    read = make(other, torch.optim.AdamW([other]), dtype=reader)
    read.load_state_dict(written.state_dict())
    assert read.optimizer.state[other]["step"] == 1
    step(read, other)


def test_an_unknown_type_is_named(weights):
    with pytest.raises(UserError, match=r"'fp8': wanted .*bf16"):
        make(weights, dtype="fp8")
