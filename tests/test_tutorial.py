"""The tutorial runs from its first cell to its last."""

import runpy
from collections import OrderedDict
from pathlib import Path

import cv2
import pytest

import xcit_dense  # noqa: F401

PROJECT = Path(__file__).parents[1]


def test_the_tutorial_leads_from_a_resnet_to_pictures(tmp_path, monkeypatch, capsys):
    from mmdet.visualization import DetLocalVisualizer

    monkeypatch.chdir(PROJECT)
    monkeypatch.setenv("TUTORIAL_QUICK", "1")
    monkeypatch.setenv("TUTORIAL_FOLDER", str(tmp_path))
    # else mmengine gives this run the log folder of an earlier one in the same process
    monkeypatch.setattr(DetLocalVisualizer, "_instance_dict", OrderedDict())
    names = runpy.run_path("docs/tutorial.py")
    assert "ResNet -> XCiT" in capsys.readouterr().out
    assert names["xcit"].model.backbone.type == "XCiT"
    assert (tmp_path / "epoch_1.pth").is_file()
    assert len(list((tmp_path / "fed").iterdir())) == 4
    assert len(list((tmp_path / "predictions").iterdir())) == 3
    for name in ["curves.png", "attention.png"]:
        assert cv2.imread(str(tmp_path / name)).std() > 0


def test_in_another_folder_it_ends_before_it_writes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=r"tutorial_resnet\.py is not in .*repository's folder"):
        runpy.run_path(str(PROJECT / "docs/tutorial.py"))
    assert not list(tmp_path.iterdir())
