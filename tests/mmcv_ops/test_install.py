"""When the adapter steps in, what it leaves alone, and what it says about ops it lacks."""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import xcit_dense.mmcv_ops as mmcv_ops
from xcit_dense.mmcv_ops import ExtensionFinder

mmcv_ops.install()
pytest.importorskip("mmcv")

PROJECT = Path(mmcv_ops.__file__).parents[2]
# The adapter without the rest of the package, which imports mmcv.
INSTALL_ALONE = f"""
import sys, types
for name in ("xcit_dense", "xcit_dense.openmmlab"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [{str(PROJECT)!r} + "/" + name.replace(".", "/")]
import xcit_dense.mmcv_ops as adapter
adapter.install()
"""


def run_python(code, *extra_paths):
    """Runs code in a fresh interpreter; returns what it printed."""
    paths = os.pathsep.join(map(str, (*extra_paths, PROJECT)))
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_install_twice_adds_one_finder():
    mmcv_ops.install()
    mmcv_ops.install()
    assert sum(isinstance(finder, ExtensionFinder) for finder in sys.meta_path) == 1


def test_finder_answers_for_one_name_only():
    finder = ExtensionFinder()
    assert finder.find_spec("mmcv._ext", None) is not None
    for name in ("mmcv", "mmcv.ops", "mmcv._ext.more", "_ext", "mmcv._flash_attn"):
        assert finder.find_spec(name, None) is None


def test_extension_has_the_served_ops():
    extension = import_module("mmcv._ext")
    for name in mmcv_ops.SERVED_OPS:
        assert vars(extension)[name].__module__.startswith("xcit_dense.mmcv_ops.")


def test_unserved_op_fails_on_call_and_says_how_to_get_it():
    extension = import_module("mmcv._ext")
    op = extension.tin_shift_forward  # looking it up, as mmcv does on import, is fine
    assert op.__name__ == "tin_shift_forward"
    with pytest.raises(NotImplementedError) as raised:
        op(1, key=2)
    message = str(raised.value)
    for part in ("'tin_shift_forward'", "mmcv-lite", "roi_align_forward", "mim install mmcv"):
        assert part in message
    assert "MMCV_WITH_OPS=1" in message


def test_unserved_op_fails_through_mmcv():
    import torch
    from mmcv.ops import nms_rotated

    with pytest.raises(NotImplementedError, match="'nms_rotated'"):
        nms_rotated(torch.rand(3, 5), torch.rand(3), 0.5)


def test_dunder_names_are_absent():
    extension = import_module("mmcv._ext")
    assert not hasattr(extension, "__path__")
    with pytest.raises(AttributeError, match="__wrapped__"):
        _ = extension.__wrapped__


def test_installing_imports_no_mmcv():
    code = f"{INSTALL_ALONE}\nprint([m for m in ('mmcv', 'mmengine', 'torch') if m in sys.modules])"
    assert run_python(code).strip() == "[]"


@pytest.mark.parametrize(
    "code",
    [
        f"import mmcv\n{INSTALL_ALONE}\nimport mmcv.ops",
        f"{INSTALL_ALONE}\nimport mmcv.ops",
        "import xcit_dense\nimport mmcv.ops",
        f"""
try:
    import mmcv.ops
except ModuleNotFoundError as error:
    assert error.name == "mmcv._ext", error
else:
    raise AssertionError("mmcv.ops imports without the adapter")
{INSTALL_ALONE}
import mmcv.ops
""",
    ],
    ids=["after mmcv", "before mmcv", "with the package", "after a failed import of mmcv.ops"],
)
def test_import_order_does_not_matter(code):
    use = "import torch; print(mmcv.ops.nms(torch.rand(0, 4), torch.rand(0), 0.5)[1].tolist())"
    assert run_python(f"{code}\n{use}").strip() == "[]"


def test_the_compiled_module_wins(tmp_path):
    package = tmp_path / "mmcv"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "_ext.py").write_text("nms = 'compiled'\n")
    use = "import mmcv._ext as ext; print(ext.nms, hasattr(ext, 'softnms'))"
    code = f"{INSTALL_ALONE}\n{use}"
    assert run_python(code, tmp_path).split() == ["compiled", "False"]


def test_collect_env_reports_the_adapter():
    from mmcv.utils import collect_env

    environment = collect_env()
    for key in ("MMCV Compiler", "MMCV CUDA Compiler"):
        assert environment[key].startswith("n/a")
        assert "xcit_dense" in environment[key]


def test_mmengine_reverts_mmcv_sync_batch_norm():
    """mmengine looks for `mmcv._ext` there, and then for mmcv.ops.SyncBatchNorm."""
    import torch
    from mmengine.model import revert_sync_batchnorm

    layers = revert_sync_batchnorm(torch.nn.Sequential(torch.nn.SyncBatchNorm(2)))
    assert layers(torch.rand(2, 2, 3, 3)).shape == (2, 2, 3, 3)
