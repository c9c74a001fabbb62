"""What the tests of the served ops share; skips them where mmcv has its compiled module."""

import importlib.util

import pytest
import torch

import xcit_dense.mmcv_ops as mmcv_ops

mmcv_ops.install()


@pytest.fixture(params=["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"])
def device(request):
    return request.param


@pytest.fixture(autouse=True)
def adapter_answers():
    if importlib.util.find_spec("mmcv._ext").origin != mmcv_ops.__name__:
        pytest.skip("mmcv has its compiled ops here, so the adapter does nothing")


@pytest.fixture
def output_and_gradients():
    """Output of a function, and the gradients of a weighted sum of it for all its operands."""

    def differentiate(function, operands):
        operands = [operand.detach().requires_grad_() for operand in operands]
        output = function(*operands)
        weights = torch.linspace(-1, 2, output.numel()).to(output).view(output.shape)
        gradients = torch.autograd.grad((output * weights).sum(), operands)
        return [output.detach().cpu(), *(gradient.cpu() for gradient in gradients)]

    return differentiate


@pytest.fixture
def assert_equal_with_gradients(output_and_gradients, device):
    """Holds a served op to a plain form: the plain one runs in float64 on the same numbers."""
    tolerances = {
        torch.float64: 1e-10,
        torch.float32: 1e-4,
        torch.float16: 1e-2,
        torch.bfloat16: 8e-2,
    }

    def check(served, plain, operands):
        dtype = operands[0].dtype
        actual = output_and_gradients(served, [operand.to(device) for operand in operands])
        expected = output_and_gradients(plain, [operand.double() for operand in operands])
        assert expected[0].any()
        for one, other in zip(actual, expected, strict=True):
            assert one.dtype == dtype
            tolerance = tolerances[dtype] * max(1.0, float(other.abs().max()))
            torch.testing.assert_close(one.double(), other, rtol=0, atol=tolerance)

    return check
