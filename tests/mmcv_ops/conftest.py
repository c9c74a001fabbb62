"""What the tests of the served ops share; skips them where mmcv has its compiled module."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

import xcit_dense.mmcv_ops as mmcv_ops

mmcv_ops.install()
sys.path.append(str(Path(__file__).parent))  # for plain_ops.py


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
