"""Names and colours of classes, from the checkpoint or the config."""

from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config

from xcit_dense.errors import UserError
from xcit_dense.predict.categories import categories_of, data_metainfo, metainfo_in

CONFIGS = Path(__file__).parents[2] / "configs"
NAMES = ("a", "b", "c")


def config(**dataset):
    return Config(dict(default_scope="mmdet", test_dataloader=dict(dataset=dataset)))


def categories(checkpoint, cfg):
    return categories_of({**data_metainfo(cfg), **metainfo_in(checkpoint)}, "c.pth")


@pytest.mark.parametrize(
    "meta",
    [
        dict(dataset_meta=dict(classes=NAMES)),
        dict(CLASSES=NAMES, mmdet_version="2.11.0"),
        dict(CLASSES=np.array(NAMES), PALETTE=np.array([[1, 2, 3]] * 3)),
        dict(dataset_meta=dict(classes=list(NAMES), palette="random")),
    ],
)
def test_a_checkpoint_names_them(meta):
    found = categories(dict(meta=meta), config(metainfo=dict(classes=("x",))))
    assert found.names == NAMES
    assert len(set(found.palette)) == (1 if "PALETTE" in meta else 3)
    assert all(type(part) is int for colour in found.palette for part in colour)


@pytest.mark.parametrize(
    "meta",
    [None, {}, dict(dataset_meta=dict(classes=())), dict(CLASSES=np.array([])),
     dict(dataset_meta=[dict(classes=("x",))])],
)  # fmt: skip
def test_else_the_config_does(meta):
    assert categories(dict(meta=meta), config(metainfo=dict(classes=NAMES))).names == NAMES


def test_names_in_a_file(tmp_path):
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    cfg = config(metainfo=dict(classes=str(tmp_path / "classes.txt")))
    assert categories({}, cfg).names == NAMES


@pytest.mark.parametrize("text", ["person", "missing.txt"])
def test_another_text_is_an_error(text):
    expected = f"c.pth, or the test data of the config: classes='{text}' is neither a list"
    with pytest.raises(UserError, match=expected):
        categories({}, config(metainfo=dict(classes=text)))


def test_no_names_are_an_error():
    with pytest.raises(UserError, match=r"add metainfo=dict\(classes=\(\.\.\.\)\)"):
        categories({}, config())


@pytest.mark.parametrize(
    ("path", "number"), [("xcit_maskrcnn_coco.py", 80), ("xcit_upernet_ade20k.py", 150)]
)
def test_a_data_set_that_mm_knows_needs_no_names_in_the_config(path, number):
    metainfo = data_metainfo(Config.fromfile(CONFIGS / path))
    assert len(metainfo["classes"]) == len(metainfo["palette"]) == number


def test_a_data_set_given_as_a_class():
    from mmdet.datasets import CocoDataset

    assert len(data_metainfo(config(type=CocoDataset))["classes"]) == 80


def test_a_data_set_that_nobody_registered_describes_nothing():
    assert data_metainfo(config(type="MyOwn", metainfo=dict(classes=NAMES))) == {"classes": NAMES}


def test_the_first_of_several_data_sets():
    first = dict(type="CocoDataset", metainfo=dict(classes=NAMES))
    several = config(type="ConcatDataset", datasets=[first, dict(type="CocoDataset")])
    assert data_metainfo(several)["classes"] == NAMES
