"""What every test shares: a fixed seed, and few threads for tiny tensors."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _fixed_seed():
    torch.manual_seed(0)
