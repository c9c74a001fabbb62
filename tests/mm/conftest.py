"""What every test with OpenMMLab shares."""

import pytest
from mmengine.visualization import Visualizer

import xcit_dense  # noqa: F401 - before tests import mmdet or mmseg, which ask for mmcv's ops


@pytest.fixture(autouse=True, scope="module")
def _fresh_visualizers():
    """Let no run draw with the visualizer of a run of another file; mmengine keeps them by name."""
    yield
    for kind in (Visualizer, *Visualizer.__subclasses__()):
        kind._instance_dict.clear()
