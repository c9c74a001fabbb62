"""When the adapter steps in, what it leaves alone, and what it says about ops it lacks."""

import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import xcit_dense.mmcv_ops as mmcv_ops

pytest.importorskip("mmcv", reason="the ops are those of mmcv")

import mmcv
from mmcv.ops import nms_rotated
from mmcv.utils import collect_env
from mmengine.model import revert_sync_batchnorm

# The adapter without the rest of the package, which imports mmcv.
WITHOUT_AND_WITH = """
import sys, torch, types
package = sys.modules["xcit_dense"] = types.ModuleType("xcit_dense")
package.__path__ = [sys.argv[1]]
import xcit_dense.mmcv_ops
assert "mmcv" not in sys.modules
try:
    import mmcv.ops
except ModuleNotFoundError as error:
    assert error.name == "mmcv._ext", error
else:
    raise AssertionError("mmcv.ops imports without the adapter")
xcit_dense.mmcv_ops.install()
import mmcv.ops
assert mmcv.ops.nms(torch.rand(1, 4), torch.rand(1), 0.5)[1].tolist() == [0]
"""


def test_mmcv_ops_imports_only_with_the_adapter_also_after_it_failed():
    package = str(Path(mmcv_ops.__file__).parents[1])
    subprocess.run([sys.executable, "-c", WITHOUT_AND_WITH, package], check=True)


def test_a_compiled_module_wins(tmp_path, monkeypatch):
    (tmp_path / "_ext.py").touch()
    monkeypatch.setattr(mmcv, "__path__", [*mmcv.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "mmcv._ext")
    importlib.invalidate_caches()
    assert importlib.util.find_spec("mmcv._ext").origin == str(tmp_path / "_ext.py")


def test_install_twice_adds_one_finder_for_one_name():
    mmcv_ops.install()
    before = list(sys.meta_path)
    mmcv_ops.install()
    assert sys.meta_path == before
    (finder,) = [finder for finder in before if type(finder).__module__ == mmcv_ops.__name__]
    assert finder.find_spec("mmcv._ext", None) is not None
    for name in ("mmcv", "mmcv.ops", "mmcv._ext.more", "_ext", "mmcv._flash_attn"):
        assert finder.find_spec(name, None) is None


def test_served_are_ops_that_mmcv_looks_up():
    sources = "".join(path.read_text() for path in Path(mmcv.ops.__file__).parent.glob("*.py"))
    assert [name for name in mmcv_ops.served_ops() if f"'{name}'" not in sources] == []


def test_unserved_op_fails_on_call_and_says_how_to_get_it():
    with pytest.raises(NotImplementedError) as raised:
        nms_rotated(torch.rand(3, 5), torch.rand(3), 0.5)
    for part in ("'nms_rotated'", "roi_align_forward", "mim install mmcv", "MMCV_WITH_OPS=1"):
        assert part in str(raised.value)


def test_collect_env_reports_the_adapter():
    environment = collect_env()
    for key in ("MMCV Compiler", "MMCV CUDA Compiler"):
        assert environment[key].startswith("n/a")
        assert "xcit_dense" in environment[key]


def test_mmengine_reverts_mmcv_sync_batch_norm():
    """mmengine looks for `mmcv._ext` there, and then for mmcv.ops.SyncBatchNorm."""
    layers = revert_sync_batchnorm(torch.nn.Sequential(torch.nn.SyncBatchNorm(2)))
    assert layers(torch.rand(2, 2, 3, 3)).shape == (2, 2, 3, 3)
