"""Whatever way mmengine takes to a checkpoint, no code in it runs; packages' configs are found."""

import importlib
import os
import re
import select
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import mmengine.hub
import mmengine.utils
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader, Runner
from mmengine.runner import checkpoint as mmengine_checkpoint
from mmengine.visualization import LocalVisBackend

import xcit_dense
from xcit_dense.errors import UserError
from xcit_dense.mm import mmengine_patches

FILES = ("good.pth", "hostile.pth")
SCHEMES = [
    "", "http://", "https://", "torchvision://", "modelzoo://", "open-mmlab://", "openmmlab://",
    "mmcls://", "s3://bucket/", "petrel://bucket/", "cluster:s3://bucket/", "pavi://",
    "open-mmlab, a file",
]  # fmt: skip


class RunsCommand:
    """Unpickled without protection, runs a command."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.fixture(autouse=True, scope="module")
def _twice():
    """Replacing what has been replaced changes nothing."""
    importlib.reload(mmengine_patches)


@pytest.fixture
def folder(tmp_path):
    """A file as mmengine writes it, and one that would make the file ``trace``."""
    good = {"state_dict": {"backbone.w": torch.ones(1)}, "hub": HistoryBuffer([0.5], [1])}
    torch.save(good, tmp_path / "good.pth")
    torch.save({"meta": RunsCommand(f"touch {tmp_path}/trace")}, tmp_path / "hostile.pth")
    return tmp_path


@pytest.fixture
def path(folder, monkeypatch):
    """A function from scheme and file name to a path of that scheme which leads to the file."""
    cache = folder / "hub/checkpoints"
    cache.mkdir(parents=True)
    for name in FILES:  # as if they had been fetched
        (cache / name).write_bytes((folder / name).read_bytes())
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(folder / "hub"))
    urls = {name: f"https://example.invalid/{name}" for name in FILES}
    for models in ("torchvision_models", "external_models", "mmcls_models"):
        monkeypatch.setattr(mmengine_checkpoint, f"get_{models}", lambda: urls)
    store = SimpleNamespace(get=lambda path: (folder / os.path.basename(path)).read_bytes())
    monkeypatch.setattr(mmengine_checkpoint, "get_file_backend", lambda *_, **__: store)
    pavi = ModuleType("pavi")
    pavi.modelcloud = SimpleNamespace(
        get=lambda name: SimpleNamespace(
            name=name, download=lambda to: Path(to).write_bytes((folder / name).read_bytes())
        )
    )
    monkeypatch.setitem(sys.modules, "pavi", pavi)

    def path(scheme, name):
        if scheme == "open-mmlab, a file":
            monkeypatch.setenv("MMENGINE_HOME", str(folder))
            monkeypatch.setattr(mmengine_checkpoint, "get_external_models", lambda: {name: name})
            return f"open-mmlab://{name}"
        if scheme.startswith("http"):
            return f"{scheme}example.invalid/{name}"
        return f"{folder}/{name}" if not scheme else scheme + name

    return path


class TestCheckpoints:
    def test_every_scheme_of_mmengine_is_tried(self):
        known = {re.sub(r"^\(\\S\+\\:\)\?", "", prefix) for prefix in CheckpointLoader._schemes}
        tried = {re.sub(r"(?<=//).*|, a file$", "", scheme) for scheme in SCHEMES}
        assert known - {"timm://"} <= tried  # timm fetches by itself

    @pytest.mark.parametrize("scheme", SCHEMES)
    def test_a_checkpoint_of_mmengine_loads_and_a_hostile_file_is_refused(
        self, scheme, path, folder
    ):
        loaded = CheckpointLoader.load_checkpoint(path(scheme, "good.pth"), "cpu")
        assert next(iter(loaded["state_dict"].values())).tolist() == [1]
        with pytest.raises(UserError, match=r"refused.*posix\.system"):
            CheckpointLoader.load_checkpoint(path(scheme, "hostile.pth"), "cpu")
        assert not (folder / "trace").exists()


WITHOUT_PATCHES = """
import torch, xcit_dense
from mmengine.registry import HOOKS, MODELS
from mmengine.runner import checkpoint
from xcit_dense.errors import UserError

assert HOOKS.get("LoadReportHook") is None
torch.hub.set_dir("hub")
for source in ("hostile.pth", "https://example.invalid/hostile.pth"):
    init_cfg = dict(type="Pretrained", checkpoint=source)
    backbone = MODELS.build(dict(type="XCiT", arch="nano_12", init_cfg=init_cfg))
    try:
        backbone.init_weights()
    except UserError as error:
        print(error)
assert checkpoint.torch is torch
"""


def test_importing_the_package_alone_replaces_nothing_and_the_backbone_is_safe(path, folder):
    process = subprocess.run(
        [sys.executable, "-c", WITHOUT_PATCHES],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(Path(xcit_dense.__file__).parents[1])},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert process.stdout.count("refused") == 2
    assert not (folder / "trace").exists()


class TestPackages:
    @pytest.mark.parametrize(
        ("base", "kind"),
        [
            ("mmdet::retinanet/retinanet_r50_fpn_1x_coco.py", "RetinaNet"),
            ("mmseg::upernet/upernet_r50_4xb4-80k_ade20k-512x512.py", "EncoderDecoder"),
            ("xcit_dense::xcit_maskrcnn_coco.py", "MaskRCNN"),
        ],
    )
    def test_configs_of_packages_as_base(self, base, kind, tmp_path):
        (tmp_path / "config.py").write_text(f"_base_ = {base!r}\n")
        model = Config.fromfile(tmp_path / "config.py").model
        assert model.type == kind
        assert model.get("_scope_") != "xcit_dense"  # which has no registry of its own

    def test_configs_that_are_imported(self, tmp_path, monkeypatch):
        (tmp_path / "own_package").mkdir()
        (tmp_path / "own_package/__init__.py").touch()
        (tmp_path / "own_package/base.py").write_text("model = dict(type='RetinaNet')\n")
        monkeypatch.syspath_prepend(tmp_path)
        (tmp_path / "config.py").write_text(
            "from mmengine.config import read_base\n"
            "with read_base():\n    from own_package.base import *\n"
        )
        assert Config.fromfile(tmp_path / "config.py").model.type == "RetinaNet"

    def test_the_hub(self):
        name = "mmdet::retinanet/retinanet_r18_fpn_1x_coco.py"
        assert mmengine.hub.get_config(name).model.type == "RetinaNet"
        assert type(mmengine.hub.get_model(name)).__name__ == "RetinaNet"

    def test_what_is_installed(self, tmp_path):
        for package in ("mmsegmentation", "mmseg", "xcit_dense", "opencv-python-headless", "yaml"):
            assert mmengine.utils.is_installed(package), package
        assert not mmengine.utils.is_installed("not_there")
        with pytest.raises(ModuleNotFoundError, match="not_there"):
            mmengine.utils.get_installed_path("not_there")
        assert Path(mmengine.utils.get_installed_path("mmsegmentation")).name == "mmseg"


def test_losses_that_cannot_be_written_name_their_file(tmp_path):
    backend = LocalVisBackend(str(tmp_path))
    backend._init_env()
    (tmp_path / "scalars.json").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"No space left.*scalars\.json"):
        backend.add_scalar("loss", 1.0)


class Large(torch.utils.data.Dataset):
    """Samples that a pipe between processes does not hold."""

    def __getitem__(self, index):
        return b"0" * 200_000

    def __len__(self):
        return 100


def test_processes_that_load_data_end_with_a_killed_parent():
    ends, held = os.pipe()  # until the last process with the other end has ended
    process = os.fork()
    if process == 0:
        loader = {"dataset": Large(), "batch_size": 1, "num_workers": 2}
        loader["sampler"] = {"type": "DefaultSampler", "shuffle": False}
        batches = iter(Runner.build_dataloader(loader, seed=0))
        next(batches)
        os.kill(os.getpid(), signal.SIGKILL)
    os.close(held)
    os.waitpid(process, 0)
    assert select.select([ends], [], [], 20)[0]
    os.close(ends)
