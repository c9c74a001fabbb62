"""Values of a config that are refused before anything is built."""

from pathlib import Path

import pytest
from mmengine.config import Config

from xcit_dense.errors import UserError
from xcit_dense.mm.config_values import check_values

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize(
    ("place", "value", "wanted"),
    [
        ("train_cfg.val_interval", 0, "from 1; to leave validation out"),
        ("train_cfg.max_epochs", 0, "from 1"),
        ("train_cfg.max_epochs", 1.5, "from 1"),
        ("log_level", "FOO", "'INFO'"),
        ("optim_wrapper.optimizer.lr", "abc", "1e-4"),
        ("optim_wrapper.optimizer.lr", -1.0, "1e-4"),
        ("model.backbone.init_cfg", "abc", "type='Pretrained'"),
        ("model.roi_head.bbox_head.init_cfg", 3, "type='Pretrained'"),
        ("train_dataloader.batch_size", 0, "from 1"),
        ("val_dataloader.num_workers", -1, "from 0"),
        ("default_hooks.checkpoint.interval", 0, "-1 for no checkpoints"),
        ("default_hooks.logger.interval", True, "from 1"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_wanted(place, value, wanted):
    cfg = Config.fromfile(CONFIGS / "xcit_maskrcnn_coco.py")
    cfg.merge_from_dict({place: value})
    with pytest.raises(UserError, match=f"{place}={value!r} .*{wanted}"):
        check_values(cfg)


def test_what_is_left_out_is_left_to_mmengine():
    nothing = {"train_dataloader": None, "default_hooks": {"logger": None}, "model": None}
    check_values(Config())
    check_values(Config({**nothing, "log_level": 20, "train_cfg": {"type": "MyLoop"}}))


def test_a_metric_that_needs_a_package(monkeypatch):
    monkeypatch.setattr("xcit_dense.mm.config_values.find_spec", lambda name: None)
    evaluator = [{"type": "CocoMetric"}, {"type": "mmdet.FasterCocoMetric"}]
    with pytest.raises(UserError, match=r"val_evaluator: .*pip install faster-coco-eval"):
        check_values(Config({"val_evaluator": evaluator}))


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("xcit_*.py")), ids=lambda path: path.stem)
def test_all_configs_are_right(path):
    check_values(Config.fromfile(path))
