"""What the document says works where nothing of OpenMMLab can be imported."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from xcit_dense.backbone import Backbone
from xcit_dense.weights import rename_state_dict

DOCUMENT = (Path(__file__).parents[1] / "docs/without_openmmlab.md").read_text(encoding="utf-8")
EXAMPLES = {
    re.findall(r"^## (.*)", DOCUMENT[: match.start()], re.MULTILINE)[-1]: match[1]
    for match in re.finditer(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
}
COMMANDS = re.findall(r"^xcit-dense .*", DOCUMENT, re.MULTILINE)
BLOCKED = "import sys; sys.modules.update(dict.fromkeys(['mmengine', 'mmcv', 'mmdet', 'mmseg']))\n"
RUN_COMMANDS = """
from xcit_dense.cli.main import main
for command in {}:
    sys.argv = command.split()
    try:
        main()
    except SystemExit as end:
        print(end.code)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with weights of the release's names, random ones, in torch's cache and beside it."""
    folder, name = tmp_path_factory.mktemp("home"), "xcit_tiny_12_p16_384_dist.pth"
    tensors = rename_state_dict(Backbone("tiny_12").trunk.state_dict(prefix="trunk."), "official")
    (folder / "hub/checkpoints").mkdir(parents=True)
    torch.save({"model": tensors}, folder / name)
    (folder / "hub/checkpoints" / name).symlink_to(folder / name)
    log = folder / "work_dirs/my_config/20261128_120000/vis_data/scalars.json"
    log.parent.mkdir(parents=True)
    log.write_text(json.dumps({"loss": 1.5, "iter": 10}) + "\n")
    return folder


def run(home, code):
    """Run code in a process in which OpenMMLab is not installed."""
    environment = os.environ | {"TORCH_HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, "-c", BLOCKED + code],
        cwd=home,
        env=environment,
        capture_output=True,
        text=True,
    )


def test_the_examples_run(home):
    examples = dict(EXAMPLES)
    assert examples.pop("segmentation_models_pytorch")
    done = run(home, "\n".join(examples.values()))
    assert not done.returncode, done.stderr
    assert "torch.Size([2, 192, 120, 161]) 192 4\n" in done.stdout
    assert "[192, 192, 192] [8, 16, 32]\n(0.485, 0.456, 0.406)\n" in done.stdout
    assert all(name in done.stdout for name in ("boxes", "labels", "scores", "masks"))


def test_segmentation_models_pytorch(home):
    pytest.importorskip("segmentation_models_pytorch", reason="comes with the extra [test]")
    checks = """
assert predicted.shape == (2, 128, 160)
assert not [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
for decoder in (smp.DeepLabV3Plus, smp.FPN):
    model = decoder("tu-xcit_dense_nano_12_p8", encoder_weights=None)
    assert model(images).shape == (2, 1, 128, 160)
"""
    done = run(home, EXAMPLES["segmentation_models_pytorch"] + checks)
    assert not done.returncode, done.stderr


def test_the_commands_run_and_others_say_what_they_need(home):
    others = ["xcit-dense train config.py", "xcit-dense convert s3://bucket/a.pth b.pth"]
    attribute = "import xcit_dense; xcit_dense.XCiT"
    done = run(home, RUN_COMMANDS.format(COMMANDS + others) + attribute)
    assert (home / "ours.safetensors").is_file()
    assert (home / "work_dirs/my_config/curves.png").is_file()
    *_, train, convert = done.stdout.splitlines()
    assert train.startswith("error: xcit-dense train needs mmengine, which is not installed: pip")
    assert "[openmmlab]" in train and "[onedl]" in train
    assert convert.startswith("error: s3://bucket/a.pth: only mmengine knows such addresses")
    assert re.search("ImportError: xcit_dense.XCiT needs OpenMMLab.*create_backbone", done.stderr)
