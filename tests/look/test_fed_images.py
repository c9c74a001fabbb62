"""The images that a model is fed come from the config's own loader and preprocessor."""

from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
from dev.demo_data import Plan, write_coco
from mmengine.config import Config

import xcit_dense  # noqa: F401
from xcit_dense.errors import UserError
from xcit_dense.look.fed_images import FedImages
from xcit_dense.mm.data import set_data_root

CONFIG = Path(__file__).parents[2] / "configs/demo/xcit_maskrcnn_demo.py"


@pytest.fixture
def data(tmp_path):
    write_coco(tmp_path / "coco", Plan(train=5, val=3, size=64))
    return tmp_path / "coco"


@pytest.fixture
def cfg(data):
    cfg = Config.fromfile(CONFIG)
    set_data_root(cfg, str(data))
    return cfg


def plain(cfg):
    """Train one by one, without augmentations."""
    loader = cfg.train_dataloader
    loader.dataset.pipeline = [
        step for step in loader.dataset.pipeline if step.type.startswith(("Load", "Pack"))
    ]
    loader.batch_size = 1
    return loader


def test_pixels_are_those_of_the_image_with_its_padding(cfg):
    cfg.test_dataloader.dataset.pipeline[1].scale = (64, 64)
    cfg.model.data_preprocessor.pad_size_divisor = 100
    fed = next(iter(FedImages(cfg, "test", seed=0)))
    image = cv2.imread(fed.source)
    height, width = image.shape[:2]
    assert fed.pixels.shape == (100, 100, 3)
    assert np.array_equal(fed.pixels[:height, :width], image)
    mean = np.round(cfg.model.data_preprocessor.mean[::-1])
    assert (fed.pixels[height:] == mean).all()


def test_a_seed_gives_the_same_pixels(cfg):
    first, again, other = (
        [fed.pixels for fed in islice(FedImages(cfg, "train", seed), 3)] for seed in (0, 0, 1)
    )
    assert all(map(np.array_equal, first, again))
    assert not all(map(np.array_equal, first, other))


def test_it_is_known_which_image_is_annotated(cfg):
    assert not FedImages(cfg, "train", 0).annotated_as_read
    assert FedImages(cfg, "val", 0).annotated_as_read


def test_the_branches_of_semi_supervised_training(cfg):
    loader = plain(cfg)
    *steps, pack = loader.dataset.pipeline
    flip = dict(type="RandomFlip", prob=1.0)
    fields = ["teacher", "student"]
    branches = dict(type="MultiBranch", branch_field=fields, teacher=[pack], student=[flip, pack])
    loader.dataset.pipeline = [*steps, branches]
    cfg.model.data_preprocessor = dict(
        type="MultiBranchDataPreprocessor", data_preprocessor=cfg.model.data_preprocessor
    )
    teacher, student, *_ = FedImages(cfg, "train", 0)
    assert [teacher.branch, student.branch] == fields
    height, width = teacher.sample.img_shape
    seen = teacher.pixels[:height, :width]
    assert np.array_equal(student.pixels[:height, :width], seen[:, ::-1])


def test_images_that_fail_are_named_and_the_others_fed_whatever_the_workers(cfg, data):
    damaged, missing, _ = sorted((data / "val2017").iterdir())
    damaged.write_bytes(damaged.read_bytes()[:40])
    missing.unlink()
    cfg.val_dataloader.update(
        batch_size=3, num_workers=2, persistent_workers=True, prefetch_factor=3, timeout=9,
        multiprocessing_context="fork",
    )  # fmt: skip
    *failed, fed = FedImages(cfg, "val", 0)
    for path, error in zip([damaged, missing], failed, strict=True):
        assert isinstance(error, UserError) and f"{path}: " in str(error)
    assert fed.pixels.any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"val_dataloader": None}, "no val_dataloader"),
        ({"val_dataloader.dataset.pipeline.1.type": "Reside"}, "cannot be built .*Reside"),
        ({"model.data_preprocessor.type": "NoPreprocessor"}, "cannot be built .*NoPreprocessor"),
    ],
)
def test_what_cannot_be_built_is_named(cfg, change, message):
    cfg.merge_from_dict(change)
    with pytest.raises(UserError, match=message):
        FedImages(cfg, "val", 0)
