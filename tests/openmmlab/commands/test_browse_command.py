"""Pictures of what a model is fed show the batch that the model gets."""

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config

import xcit_dense  # noqa: F401
from xcit_dense.demo_data import Plan, write_ade20k, write_coco
from xcit_dense.openmmlab.commands import browse_dataset
from xcit_dense.openmmlab.commands.options import run

CONFIGS = Path(__file__).parents[3] / "configs"
CONFIG = {
    "coco": str(CONFIGS / "demo/xcit_maskrcnn_demo.py"),
    "ade20k": str(CONFIGS / "demo/xcit_upernet_demo.py"),
}
PLAN = Plan(train=5, val=3, size=64)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    write_coco(root / "coco", PLAN)
    write_ade20k(root / "ade20k", PLAN)
    return root


@pytest.mark.parametrize("kind", ["coco", "ade20k"])
@pytest.mark.parametrize(("split", "expected"), [("train", 6), ("val", 3)])
def test_pictures_of_both_tasks(data, tmp_path, capsys, kind, split, expected):
    root = ["--data-root", str(data / kind)]
    if (kind, split) == ("coco", "train"):
        expected = 4  # one of the five is empty and left out, and an epoch ends
    browse_dataset.main(
        [CONFIG[kind], *root, "--split", split, "--number", "6", "--out", str(tmp_path)]
    )
    assert f"{expected} pictures written to" in capsys.readouterr().out
    drawn = [cv2.imread(str(path)) for path in sorted(tmp_path.iterdir())]
    assert len(drawn) == expected
    assert all(picture.std() > 0 for picture in drawn)


def test_the_pixels_are_those_of_the_image_with_its_padding(data):
    """Without ground truth drawn, a validation image comes back as it was resized."""
    cfg = Config.fromfile(CONFIG["coco"])
    browse_dataset.set_data_root(cfg, str(data / "coco"))
    cfg.test_dataloader.dataset.pipeline[1].scale = (64, 64)
    cfg.test_dataloader.dataset.pipeline[2].update(with_bbox=False, with_mask=False)
    cfg.model.data_preprocessor.pad_size_divisor = 100
    source, picture = next(browse_dataset.pictures_of(cfg, "test", seed=0))
    image = cv2.imread(source)
    height, width = image.shape[:2]
    assert picture.shape == (100, 100, 3)
    assert np.array_equal(picture[:height, :width], image)
    mean = np.round(cfg.model.data_preprocessor.mean[::-1])
    assert (picture[height:] == mean).all()


def test_a_seed_gives_the_same_pictures(data):
    def first(seed):
        cfg = Config.fromfile(CONFIG["ade20k"])
        browse_dataset.set_data_root(cfg, str(data / "ade20k"))
        return next(browse_dataset.pictures_of(cfg, "train", seed))[1]

    assert np.array_equal(first(0), first(0))
    assert not np.array_equal(first(0), first(1))


def test_missing_data_end_the_tool_with_one_line(monkeypatch, tmp_path):
    arguments = [CONFIG["coco"], "--data-root", "/no/where", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["browse_dataset.py", *arguments])
    with pytest.raises(SystemExit, match=r"^error: train data: looked for /no/where/annotations"):
        run(browse_dataset.main)
