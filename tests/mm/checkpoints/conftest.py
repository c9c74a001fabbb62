"""Checkpoints and models that the tests of loading and saving share."""

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import nn

from xcit_dense.mm import backbone, loading

ARCH = {"embed_dims": 32, "depth": 4, "num_heads": 4, "eta": 1.0}


class ToyDetector(BaseModel):
    """An XCiT and a head."""

    def __init__(self, **backbone):
        super().__init__()
        self.backbone = MODELS.build({"type": "XCiT", "arch": ARCH, "patch_size": 16, **backbone})
        self.head = nn.Linear(4, 2)

    def forward(self, inputs, *_):
        return self.backbone(inputs)


@pytest.fixture
def toy_detector():
    """Build an XCiT with a head, with weights and statistics of its own."""

    def build(seed=0, **backbone):
        torch.manual_seed(seed)
        model = ToyDetector(**backbone)
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                nn.init.uniform_(tensor, 0.5, 1) if "var" in name else nn.init.normal_(tensor)
        return model

    return build


@pytest.fixture
def log(monkeypatch):
    """What loading writes to the log."""
    lines = []
    for module in (backbone, loading):
        monkeypatch.setattr(module, "tell", lambda text, *_: lines.append(text))
    monkeypatch.setattr(loading, "print_log", lambda text, **_: lines.append(text))
    return lines
