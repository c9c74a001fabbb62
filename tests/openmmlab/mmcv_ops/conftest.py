"""Devices for the tests of the served ops; skips them where mmcv has its compiled module."""

import importlib.util

import pytest
import torch

import xcit_dense.openmmlab.mmcv_ops as mmcv_ops

mmcv_ops.install()


@pytest.fixture(params=["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"])
def device(request):
    return request.param


@pytest.fixture(autouse=True)
def adapter_answers():
    if importlib.util.find_spec("mmcv._ext").origin != mmcv_ops.__name__:
        pytest.skip("mmcv has its compiled ops here, so the adapter does nothing")
