"""When the adapter steps in, what it leaves alone, and what it says about ops it lacks."""

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

import xcit_dense.mmcv_ops as mmcv_ops

pytest.importorskip("mmcv")

from mmcv.ops import nms_rotated
from mmcv.utils import collect_env
from mmengine.model import revert_sync_batchnorm

# The adapter without the rest of the package, which imports mmcv.
INSTALL = """
package = types.ModuleType("xcit_dense")
package.__path__ = [PROJECT + "/xcit_dense"]
sys.modules["xcit_dense"] = package
import xcit_dense.mmcv_ops
xcit_dense.mmcv_ops.install()
"""
USE = """
import mmcv.ops
answer = mmcv.ops.nms(torch.rand(0, 4), torch.rand(0), 0.5)[1].tolist()
"""
ORDERS = {
    "before mmcv": f"{INSTALL}\nassert 'mmcv' not in sys.modules\n{USE}",
    "after mmcv": f"import mmcv\n{INSTALL}\n{USE}",
    "with the package": f"import xcit_dense\n{USE}",
    "after a failed import": f"""
try:
    import mmcv.ops
except ModuleNotFoundError as error:
    assert error.name == "mmcv._ext", error
else:
    raise AssertionError("mmcv.ops imports without the adapter")
{INSTALL}
{USE}
""",
    "with a compiled module": f"""
{INSTALL}
sys.path.insert(0, COMPILED)
import mmcv._ext as extension
answer = [extension.nms, hasattr(extension, "softnms")]
""",
}
# Each order runs in a fork of one interpreter, so that torch is imported once.
RUN = """
import json, os, sys, types, torch, torchvision, mmengine.model
_, PROJECT, COMPILED, orders = sys.argv
for name, code in json.loads(orders).items():
    if os.fork() == 0:
        scope = dict(globals())
        exec(code, scope)
        print(json.dumps([name, scope["answer"]]), flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    compiled = tmp_path_factory.mktemp("compiled") / "mmcv"
    compiled.mkdir()
    (compiled / "__init__.py").write_text("")
    (compiled / "_ext.py").write_text("nms = 'compiled'\n")
    project = str(Path(mmcv_ops.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", RUN, project, str(compiled.parent), json.dumps(ORDERS)],
        env={**os.environ, "PYTHONPATH": project, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(json.loads(line) for line in done.stdout.splitlines()), done.stderr


@pytest.mark.parametrize("order", ORDERS)
def test_order_of_imports_does_not_matter_and_the_compiled_module_wins(order, answers):
    by_order, errors = answers
    assert order in by_order, errors
    assert by_order[order] == (["compiled", False] if order == "with a compiled module" else [])


def test_install_twice_adds_one_finder_for_one_name():
    mmcv_ops.install()
    before = list(sys.meta_path)
    mmcv_ops.install()
    assert sys.meta_path == before
    (finder,) = [finder for finder in before if type(finder).__module__ == mmcv_ops.__name__]
    assert finder.find_spec("mmcv._ext", None) is not None
    for name in ("mmcv", "mmcv.ops", "mmcv._ext.more", "_ext", "mmcv._flash_attn"):
        assert finder.find_spec(name, None) is None


def test_extension_has_the_served_ops_of_the_table():
    extension = import_module("mmcv._ext")
    for name in mmcv_ops.SERVED_OPS:
        assert vars(extension)[name].__name__ == name
    assert not hasattr(extension, "__path__")


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


@pytest.mark.parametrize("file", ["corner_pool", "cc_attention", "point_sample"])
def test_mmcv_asks_for_no_compiled_op_where_it_has_plain_torch(file):
    assert not hasattr(import_module(f"mmcv.ops.{file}"), "ext_module")
