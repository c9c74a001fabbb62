"""Pointing configs at data, and early words about data that is not there."""

import os

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import PixelData
from mmseg.datasets import BaseSegDataset
from mmseg.structures import SegDataSample

import xcit_dense.mm.mmengine_patches  # noqa: F401
from xcit_dense.errors import UserError
from xcit_dense.mm import data
from xcit_dense.mm.data import (
    check_data_exists,
    check_label_map,
    compare_sizes,
    set_data_root,
)

DETECTION = {
    "train_dataloader": {
        "dataset": {
            "type": "RepeatDataset",
            "times": 2,
            "dataset": {
                "data_root": "data/coco/",
                "ann_file": "annotations/train.json",
                "data_prefix": {"img": "train/"},
            },
        }
    },
    "val_evaluator": [{"type": "CocoMetric", "ann_file": "data/coco/annotations/val.json"}],
    "other": {"ann_file": "elsewhere/val.json"},
}
DATASET = "train_dataloader.dataset.dataset"


def test_the_root_and_the_paths_below_it_move():
    cfg = Config(DETECTION)
    set_data_root(cfg, "/big/disk")
    assert cfg.train_dataloader.dataset.dataset.data_root == "/big/disk"
    assert cfg.train_dataloader.dataset.dataset.ann_file == "annotations/train.json"
    assert cfg.val_evaluator[0].ann_file == "/big/disk/annotations/val.json"
    assert cfg.other.ann_file == "elsewhere/val.json"


@pytest.mark.parametrize(
    "written",
    ["data/coco/a.json", "./data/coco/a.json", "data//coco/../coco/a.json", "{cwd}/a.json"],
)
def test_a_path_moves_however_it_is_written(written):
    written = written.format(cwd=os.path.abspath("data/coco"))
    cfg = Config(DETECTION)
    cfg.val_evaluator = {"type": "Evaluator", "metrics": [{"ann_file": written}]}
    cfg.train_dataloader.dataset.dataset.ann_file = os.path.abspath(written)
    set_data_root(cfg, "new")
    assert cfg.val_evaluator.metrics[0].ann_file == "new/a.json"
    assert cfg.train_dataloader.dataset.dataset.ann_file == "new/a.json"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({f"{DATASET}.data_root": ""}, [f"{DATASET}.data_root=None"]),
        ({f"{DATASET}.ann_file": "/else/a.json"}, [DATASET, "ann_file='/else/a.json'"]),
        ({f"{DATASET}.data_prefix.img": "/else/train"}, [DATASET, "img='/else/train'"]),
        ({"val_evaluator.0.ann_file": "else/a.json"}, ["val_evaluator", "else/a.json"]),
        ({"val_dataloader.dataset.data_root": "data/b"}, ["data/coco", "data/b"]),
    ],
)
def test_old_data_are_not_mixed_with_new(changes, named):
    cfg = Config(DETECTION)
    cfg.merge_from_dict(changes)
    with pytest.raises(UserError) as raised:
        set_data_root(cfg, "new")
    assert all(text in str(raised.value) for text in [*named, "--cfg-options"])


@pytest.fixture
def coco(tmp_path):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "train").mkdir()
    (tmp_path / "train/1.jpg").touch()
    (tmp_path / "annotations/train.json").touch()
    return tmp_path


def config_at(root):
    cfg = Config(DETECTION)
    set_data_root(cfg, str(root))
    return cfg


@pytest.mark.parametrize("missing", ["annotations/train.json", "train"])
def test_what_is_missing_is_named_with_the_remedy(coco, missing):
    (coco / missing).rename(coco / "moved")
    with pytest.raises(FileNotFoundError, match=rf"train data: .*{missing}.*--data-root DIR"):
        check_data_exists(config_at(coco), ["train"])


def test_paths_without_a_data_root_are_looked_at(tmp_path):
    cfg = Config({"train_dataloader": {"dataset": {"ann_file": str(tmp_path / "gone.json")}}})
    with pytest.raises(FileNotFoundError, match=r"train data: looked for .*gone\.json"):
        check_data_exists(cfg, ["train"])


def test_data_in_a_store_are_left_to_the_data_set(tmp_path):
    cfg = config_at(tmp_path / "nowhere")
    cfg.train_dataloader.dataset.dataset.backend_args = {"backend": "petrel"}
    check_data_exists(cfg, ["train"])


@pytest.mark.parametrize(
    ("step", "is_read"),
    [
        ({"type": "LoadAnnotations", "with_mask": True}, False),
        ({"type": "LoadAnnotations", "with_seg": True}, True),
        ({"type": "mmdet.LoadPanopticAnnotations"}, True),
    ],
)
def test_a_folder_of_segmentations_is_looked_at_where_it_is_read(coco, step, is_read):
    """Mask2Former's config of instances inherits one from that of panoptic segmentation."""
    cfg = config_at(coco)
    dataset = cfg.train_dataloader.dataset.dataset
    dataset.data_prefix.seg = "panoptic"
    dataset.pipeline = [{"type": "LoadImageFromFile"}, step]
    if not is_read:
        check_data_exists(cfg, ["train"])
        return
    with pytest.raises(FileNotFoundError, match=r"train data: .*panoptic"):
        check_data_exists(cfg, ["train"])


def test_an_empty_image_folder_is_named(coco):
    (coco / "train/1.jpg").unlink()
    with pytest.raises(UserError, match="is an empty folder"):
        check_data_exists(config_at(coco), ["train"])


def test_splits_that_are_not_asked_for_are_not_looked_at(tmp_path):
    check_data_exists(config_at(tmp_path / "nowhere"), ["val"])


def segmented(labels, image=(4, 6)):
    labels = torch.as_tensor(labels)
    return {
        "inputs": torch.zeros(3, *image),
        "data_samples": SegDataSample(
            gt_sem_seg=PixelData(data=labels),
            metainfo={"seg_map_path": "a.png", "ori_shape": (8, 12)},
        ),
    }


@pytest.mark.parametrize("size", [(4, 6), (8, 12)])
@pytest.mark.parametrize("value", [0, 2, 255])
def test_label_maps_that_fit(size, value):
    check_label_map(segmented(np.full((1, *size), value, np.uint8)), ("a", "b", "c"))


def test_a_data_set_may_ignore_another_label():
    sample = segmented(np.full((1, 4, 6), 100, np.uint8))
    check_label_map(sample, ("a", "b"), ignored=100)
    with pytest.raises(UserError, match="100"):
        check_label_map(sample, ("a", "b"))


@pytest.mark.parametrize(
    ("shape", "value", "told"),
    [
        ((1, 4, 7), 0, ["4 x 7 pixels", "8 x 12"]),
        ((1, 4, 6), 3, ["from 3 to 3", "0 to 2", "255"]),
        ((1, 4, 6), 254, ["254"]),
        ((4, 6, 3), 0, ["(4, 6, 3)", "one channel"]),
    ],
)
def test_label_maps_that_do_not_fit_are_named(shape, value, told):
    with pytest.raises(UserError, match=r"a\.png") as caught:
        check_label_map(segmented(np.full(shape, value, np.uint8)), ("a", "b", "c"))
    assert all(part in str(caught.value) for part in told)


def test_samples_without_a_label_map_pass():
    for sample in ({"inputs": torch.zeros(3, 4, 6)}, {"img": 1}, None):
        check_label_map(sample, ("a",))


def test_a_data_set_names_what_it_cannot_use(tmp_path):
    settings = dict(
        data_root=str(tmp_path), data_prefix={"img_path": ""}, img_suffix=".jpg", pipeline=[]
    )
    with pytest.raises(UserError, match=rf"no image.*{tmp_path}.*img_suffix"):
        BaseSegDataset(**settings)
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    dataset = BaseSegDataset(**{**settings, "pipeline": [{"type": "LoadImageFromFile"}]})
    with pytest.raises(UserError, match=r"broken\.jpg: cannot be used"):
        dataset[0]


def test_an_image_of_another_size_is_named_once(tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr(data, "print_log", lambda line, **_: lines.append(line))
    sample = {"data_samples": DetDataSample(metainfo={"ori_shape": (8, 12)})}
    for name, annotated in [("a", (8, 12)), ("b", (12, 8)), ("c", (12, 8))]:
        compare_sizes(sample, annotated, f"{tmp_path}/{name}.jpg")
    (line,) = lines
    assert "b.jpg has 8 x 12 pixels" in line and "annotated as 12 x 8" in line
