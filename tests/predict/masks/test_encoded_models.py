"""Whole models predict and score the same, with masks made one by one and all at once."""

import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import mmdet
import numpy as np
import pytest
from dev.demo_data import Plan, write_coco
from mmdet.datasets import CocoDataset, CocoPanopticDataset
from mmdet.engine.hooks import DetVisualizationHook
from mmengine.config import Config
from mmengine.hooks import Hook, LoggerHook
from torch import nn

import xcit_dense.predict as prediction
from xcit_dense.cli import test as test_command
from xcit_dense.predict import Predictor, encode_masks, predictor
from xcit_dense.predict.segmentation_picture_hook import SegmentationPictureHook

OURS = Path(__file__).parents[3] / "configs"
THEIRS = Path(mmdet.__file__).parent / ".mim/configs"
CHANGES = {"model.backbone.init_cfg": None}
R18 = {**CHANGES, "model.backbone.depth": 18, "model.neck.in_channels": [64, 128, 256, 512]}
FORMER = {
    "model.panoptic_head.num_queries": 12,
    "model.panoptic_head.pixel_decoder.encoder.num_layers": 1,
    "model.panoptic_head.transformer_decoder.num_layers": 1,
    "model.panoptic_head.num_transformer_decoder_layers": 1,
    "model.test_cfg.max_per_image": 10,
    "model.test_cfg.object_mask_thr": 0.0,
}
XCIT = {
    "model.backbone": {
        "_delete_": True,
        "type": "XCiT",
        "arch": {"embed_dims": 16, "depth": 4, "num_heads": 4, "eta": 1.0},
        "patch_size": 16,
    },
    "model.panoptic_head.in_channels": [16] * 4,
}
MODELS = {
    "solov2": (THEIRS / "solov2/solov2-light_r18_fpn_ms-3x_coco.py", {
        **CHANGES, "model.mask_head.feat_channels": 32, "model.mask_head.num_classes": 5,
        "model.mask_head.num_grids": [8, 6, 4, 3, 2], "model.test_cfg.score_thr": 0.001,
        "model.test_cfg.filter_thr": 0.0, "model.test_cfg.max_per_img": 10,
    }),
    "rtmdet": (THEIRS / "rtmdet/rtmdet-ins_tiny_8xb32-300e_coco.py", {
        **CHANGES, "model.bbox_head.norm_cfg.type": "BN", "model.test_cfg.score_thr": 0.0,
        "model.test_cfg.max_per_img": 10,
    }),
    "condinst": (THEIRS / "condinst/condinst_r50_fpn_ms-poly-90k_coco_instance.py", {
        **R18, "model.test_cfg.score_thr": 0.0, "model.test_cfg.max_per_img": 10,
    }),
    "mask2former": (OURS / "mask2former/xcit_small_12_p16_mask2former_coco.py", {**FORMER, **XCIT}),
    "panoptic": (THEIRS / "mask2former/mask2former_r50_8xb2-lsj-50e_coco-panoptic.py", {
        **FORMER, "model.backbone.init_cfg": None, "model.backbone.depth": 18,
        "model.panoptic_head.in_channels": [64, 128, 256, 512],
    }),
}  # fmt: skip


@pytest.fixture(scope="module", params=MODELS)
def model(request, save_model, tmp_path_factory):
    config, changes = MODELS[request.param]
    kind = CocoPanopticDataset if request.param == "panoptic" else CocoDataset
    changes = {**changes, "metainfo": {"classes": kind.METAINFO["classes"]}}
    return save_model(tmp_path_factory.mktemp("models") / request.param, config, changes)


def leave_heads(monkeypatch):
    monkeypatch.setattr(predictor, "encode_masks", lambda model: 0)
    monkeypatch.setattr(prediction, "encode_masks", lambda model: 0)


def test_predictions_are_equal(model, monkeypatch):
    image = cv2.resize(np.random.default_rng(0).integers(0, 256, (7, 9, 3), np.uint8), (190, 140))
    ours = Predictor(model.config, model.checkpoint, "cpu")(image)
    leave_heads(monkeypatch)
    as_mmdet = Predictor(model.config, model.checkpoint, "cpu")
    expected = as_mmdet(image)
    assert len(ours) == len(expected) > 0
    assert ours.masks == expected.masks
    assert np.array_equal(ours.labels, expected.labels)
    assert np.array_equal(ours.boxes, expected.boxes)
    assert (ours.scores is None) == (expected.scores is None)
    if ours.scores is not None:
        np.testing.assert_allclose(ours.scores, expected.scores, rtol=3e-7)
    assert encode_masks(as_mmdet.model) == 1


def test_evaluations_are_equal(save_model, tmp_path, monkeypatch):
    config, changes = MODELS["solov2"]
    theirs = Config.fromfile(config)
    theirs.merge_from_dict(changes)
    changes = {"model": {"_delete_": True, **theirs.model.to_dict()}}
    model = save_model(tmp_path / "model", OURS / "demo/xcit_maskrcnn_demo.py", changes)
    write_coco(tmp_path / "coco", Plan(train=3, val=3, size=150))

    changed = []
    monkeypatch.setattr(
        prediction, "encode_masks", lambda model: changed.append(encode_masks(model))
    )
    scored = [evaluated(model, tmp_path, "ours")]
    leave_heads(monkeypatch)
    scored.append(evaluated(model, tmp_path, "theirs"))
    assert changed == [1]
    assert scored[0] == scored[1]
    assert len({json.dumps(found["segmentation"]) for found in scored[0]}) > 3


def evaluated(model, folder, name):
    test_command.main([
        model.config, model.checkpoint, "--data-root", str(folder / "coco"),
        f"--work-dir={folder}/{name}", "--cfg-options", "test_evaluator.metric=segm",
        f"test_evaluator.outfile_prefix={folder}/{name}",
    ])  # fmt: skip
    return json.loads((folder / f"{name}.segm.json").read_text())


@pytest.mark.parametrize(
    ("evaluators", "expected"),
    [
        (["CocoMetric"], {"encode_masks"}),
        (["CocoPanopticMetric", "CocoMetric"], {"encode_masks"}),
        (["CocoMetric", "DumpDetResults"], set()),
        (["LVISMetric"], set()),
        (["IoUMetric"], {"keep_classes_only"}),
        (["IoUMetric", "DumpResults"], set()),
    ],
)
def test_what_others_read_stays(monkeypatch, evaluators, expected):
    called = set()
    monkeypatch.setattr(prediction, "encode_masks", lambda model: called.add("encode_masks"))
    monkeypatch.setattr(
        test_command, "keep_classes_only", lambda model: called.add("keep_classes_only")
    )
    cfg = Config({"test_evaluator": [{"type": name} for name in evaluators]})
    hooks = [LoggerHook(), DetVisualizationHook(draw=False), SegmentationPictureHook(draw=True)]
    runner = SimpleNamespace(model=nn.Identity(), hooks=hooks)
    test_command.save_memory(cfg, runner)
    assert called == expected

    for reader in (DetVisualizationHook(draw=True), HookThatLooks(), HookThatLooksAlways()):
        called.clear()
        runner.hooks = [*hooks, reader]
        test_command.save_memory(cfg, runner)
        assert not called


class HookThatLooks(Hook):
    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None): ...


class HookThatLooksAlways(Hook):
    def _after_iter(self, runner, batch_idx, data_batch=None, outputs=None, mode="train"): ...
