"""Published files as they are, and what the tests of loading them share."""

import re

import pytest
import timm
import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.runner import Runner
from torch import nn

from xcit_dense.mm import backbone as backbone_module
from xcit_dense.mm import load_report_hook, pretrained_backbone


def _official(state_dict):
    """Timm's tensors under the names of the paper's release, as its code has them."""
    official = {}
    for key, tensor in state_dict.items():
        if re.search(r"cls_attn_blocks\.\d\.attn\.q\.weight", key):
            for kind in ("weight", "bias"):
                parts = [key.replace("q.weight", f"{part}.{kind}") for part in "qkv"]
                joined = torch.cat([state_dict[part] for part in parts])
                official[key.replace("q.weight", f"qkv.{kind}")] = joined
        elif not re.search(r"cls_attn_blocks\.\d\.attn\.[qkv]\.", key):
            official[key.replace("pos_embed.", "pos_embeder.")] = tensor
    return official


@pytest.fixture
def official():
    """Give timm's state dict the names of the release."""
    return _official


@pytest.fixture(scope="session")
def timm_nano():
    """Timm's classification model XCiT-N12/16 with random weights and statistics."""
    torch.manual_seed(3)
    model = timm.create_model("xcit_nano_12_p16_224").eval()
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            nn.init.uniform_(tensor, 0.5, 2)
        elif tensor.is_floating_point():
            tensor.mul_(1.1).add_(0.01)
    return model


class ToyDetector(BaseModel):
    """An XCiT and a head."""

    def __init__(self, **backbone):
        super().__init__()
        self.backbone = MODELS.build(
            {"type": "XCiT", "arch": "nano_12", "patch_size": 16, **backbone}
        )
        self.head = nn.Linear(4, 2)

    def forward(self, inputs, *_):
        return self.backbone(inputs)


@pytest.fixture
def toy_detector():
    """Build an XCiT with a head."""
    return ToyDetector


@pytest.fixture
def load_from(tmp_path):
    """Load a checkpoint into a whole model as a training run does."""

    def load(model, path, hooks=({"type": "LoadReportHook"},), **options):
        runner = Runner(
            model=model,
            work_dir=str(tmp_path / "work_dir"),
            load_from=str(path),
            custom_hooks=list(hooks),
            experiment_name=tmp_path.name,
            **options,
        )
        runner.load_or_resume()
        return runner.model

    return load


@pytest.fixture
def log(monkeypatch):
    """What the code that loads weights writes to the log."""
    lines = []
    for module in (backbone_module, load_report_hook, pretrained_backbone):
        monkeypatch.setattr(module, "print_log", lambda text, **_: lines.append(text))
    return lines
