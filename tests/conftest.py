"""What every test shares: a fixed seed, and few threads for tiny tensors."""

import os
import sys
from importlib.util import find_spec

os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start

import pytest
import torch

torch.set_num_threads(1)

# yapf, which mmengine imports, caches its grammar when it is first imported, and two workers that
# do so at once read half a file. pytest loads this before it starts them.
if find_spec("yapf"):
    import yapf.yapflib.yapf_api  # noqa: F401


@pytest.fixture(autouse=True)
def _fixed_seed():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _fresh_loggers():
    """Let no run write to the stream of one that was started in the same second."""
    yield
    if module := sys.modules.get("mmengine.logging"):
        module.MMLogger._instance_dict.clear()


@pytest.fixture(autouse=True, scope="module")
def _fresh_visualizers():
    """Let no run draw with the visualizer of a run of another file; mmengine keeps them by name."""
    yield
    if module := sys.modules.get("mmengine.visualization"):
        for kind in (module.Visualizer, *module.Visualizer.__subclasses__()):
            kind._instance_dict.clear()
