"""A script beside the clone finds the package, not the folder of the clone."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
FIND = """
import site, sys
site.addsitedir("installed")
from importlib.util import find_spec
print(find_spec("xcit_dense").origin)
"""


def test_the_clone_does_not_hide_the_package(tmp_path):
    pytest.importorskip("setuptools", "77", reason="what builds the package")
    clone = tmp_path / "xcit_dense"
    ignored = shutil.ignore_patterns("__pycache__", ".mim")
    shutil.copytree(PROJECT / "xcit_dense", clone / "xcit_dense", ignore=ignored)
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, clone)
    build = "from setuptools.build_meta import build_editable; build_editable('..')"
    subprocess.run([sys.executable, "-c", build], cwd=clone, check=True, capture_output=True)
    with zipfile.ZipFile(*tmp_path.glob("*.whl")) as wheel:
        wheel.extractall(tmp_path / "installed")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    found = subprocess.run(
        [sys.executable, "-S", "-c", FIND],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert found.stdout.strip() == str(clone / "xcit_dense/__init__.py"), found.stderr
