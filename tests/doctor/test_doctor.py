"""Healthy models are called so; faults that are planted are found, and their place is named."""

import copy
from functools import cache
from importlib import import_module

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.model import BaseModule
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from xcit_dense import XCiT
from xcit_dense.doctor import Trial, checks, diagnose, report
from xcit_dense.doctor.random_batch import random_batch
from xcit_dense.mm.config import read_config
from xcit_dense.swap import plan_swap

SIZE = (128, 256)
WIDTH = 32
ARCH = {"embed_dims": WIDTH, "depth": 4, "num_heads": 2, "eta": 1.0}
NOWHERE = "https://nowhere.invalid/weights.pth"
NO_DECAY = {"temperature": {"decay_mult": 0.0}, "layer_scale": {"decay_mult": 0.0}}
OPTIMIZER = {"type": "AdamW", "lr": 1e-4, "weight_decay": 0.05}
RETINANET = "mmdet::retinanet/retinanet_r18_fpn_1x_coco.py"
FCOS = "mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py"
FASTER_RCNN = "mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py"
YOLOX = "mmdet::yolox/yolox_tiny_8xb8-300e_coco.py"
BYTETRACK = "mmdet::bytetrack/bytetrack_yolox_x_8xb4-80e_crowdhuman-mot17halftrain_test-mot17halfval.py"  # noqa: E501  # fmt: skip
SOFT_TEACHER = "mmdet::soft_teacher/soft-teacher_faster-rcnn_r50-caffe_fpn_180k_semi-0.1-coco.py"
SEMANTIC_FPN = "mmseg::sem_fpn/fpn_r50_4xb4-160k_ade20k-512x512.py"
PSPNET = "mmseg::pspnet/pspnet_r50-d8_4xb4-80k_ade20k-512x512.py"

read = cache(read_config)


def small(name, changes=None):
    """A config of mm's with a small XCiT, narrow heads, and changes by their dotted names."""
    cfg = copy.deepcopy(read(name))
    paramwise = {"custom_keys": copy.deepcopy(NO_DECAY)}
    cfg.optim_wrapper = {"optimizer": dict(OPTIMIZER), "paramwise_cfg": paramwise}
    model = cfg.model.get("detector", cfg.model)
    strides, neck = (4, 8, 16, 32), model.get("neck")
    if neck is not None:
        start = neck.pop("start_level", 0)  # so that every level is read
        strides = strides[-len(neck.in_channels) :][start:]
        neck.update(in_channels=[WIDTH] * len(strides), out_channels=WIDTH)
    for head in ("bbox_head", "rpn_head"):
        if head in model:
            model[head].update(in_channels=WIDTH, feat_channels=WIDTH)
    if "roi_head" in model:
        model.roi_head.bbox_roi_extractor.out_channels = WIDTH
        model.roi_head.bbox_head.update(in_channels=WIDTH, fc_out_channels=WIDTH)
    if name == PSPNET:
        strides = (8, 8)
        model.decode_head.update(in_channels=WIDTH, in_index=1, channels=WIDTH)
        model.auxiliary_head.update(in_channels=WIDTH, in_index=0, channels=WIDTH)
    if name == SEMANTIC_FPN:
        model.decode_head.update(in_channels=[WIDTH] * 4, channels=WIDTH)
        model.data_preprocessor.update(size=None, size_divisor=640)  # of real images
    init_cfg = {"type": "Pretrained", "checkpoint": NOWHERE}
    model.backbone = {"type": "XCiT", "arch": ARCH, "out_strides": strides, "init_cfg": init_cfg}
    cfg.merge_from_dict(changes or {})
    return cfg


def texts(trial, are_wrong):
    return [finding.text for finding in trial.findings if finding.is_wrong == are_wrong]


@pytest.mark.parametrize(
    "name", [RETINANET, FCOS, FASTER_RCNN, YOLOX, BYTETRACK, PSPNET, SEMANTIC_FPN]
)
def test_healthy_models_have_no_findings_and_their_configs_stay(name):
    cfg = small(name)
    before = copy.deepcopy(cfg.to_dict())
    trial = diagnose(cfg, SIZE)
    assert not trial.findings, report(trial)
    assert trial.losses and trial.flops
    assert all(trial.readers)
    assert cfg.to_dict() == before


def test_operations_are_those_of_the_direct_form():
    """torch's counter sees them all: where it watches, nothing runs from packed weights."""
    counts = []
    for form in ("auto", "direct"):
        backbone = XCiT(ARCH, attention=form).eval()
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            backbone(torch.zeros(1, 3, 256, 256))
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0


def test_the_report_has_a_table_of_levels_and_who_reads_them():
    lines = report(diagnose(small(RETINANET), SIZE)).splitlines()
    assert lines[0].startswith("RetinaNet: 0.")
    assert lines[1].startswith("prediction of 128x256: ")
    assert lines[4].split() == ["1", "16", "32", "model.neck", "(in_channels", "32)"]
    assert "the neck makes maps of strides 8, 16, 32, 64, 128" in lines
    assert lines[-2].startswith("losses of a step: loss_cls ")
    assert lines[-1] == "healthy"


ROI_STRIDES = "model.roi_head.bbox_roi_extractor.featmap_strides"
KEYS = "optim_wrapper.paramwise_cfg.custom_keys"
AUXILIARY_WEIGHT = "model.auxiliary_head.loss_decode.loss_weight"
CLASSES = "train_dataloader.dataset.metainfo"
FOUR_LEVELS = {  # nobody reads the first
    "backbone": {"out_strides": (4, 8, 16, 32)},
    "neck": {"in_channels": [WIDTH] * 4, "start_level": 1},
}


@pytest.mark.parametrize(
    ("name", "place", "value", "named"),
    [
        (RETINANET, "model.neck.in_channels", [WIDTH, WIDTH, 64], "model.neck.in_channels"),
        (PSPNET, "model.auxiliary_head.in_channels", 8, "model.auxiliary_head.in_channels"),
        (FASTER_RCNN, ROI_STRIDES, [8, 16, 32, 64], f"{ROI_STRIDES} = [8, 16, 32, 64]"),
        (SEMANTIC_FPN, "model.decode_head.feature_strides", [8, 16, 32, 64], "feature_strides"),
        (YOLOX, "model.bbox_head.strides", [4, 8, 16], "prior_generator.strides = [4, 8, 16]"),
        (FCOS, "model.backbone.out_strides", (4, 8, 16), "prior_generator.strides = [8, 16, "),
        (RETINANET, KEYS, {"pos_table": {}}, f"{KEYS}: 'pos_table' matches no parameter"),
        (
            RETINANET,
            "optim_wrapper.optimizer.type",
            "Nobody",
            "optimizer fails: KeyError: 'Nobody'",
        ),
        (PSPNET, AUXILIARY_WEIGHT, float("nan"), "aux.loss_ce is nan"),
        (RETINANET, "model.backbone.patch_size", 4, "patch_size=4"),
        (RETINANET, "model.neck.type", "Nobody", "building the model fails: KeyError: 'Nobody"),
        (RETINANET, CLASSES, {"classes": ("cat",)}, "but the training data have 1 class names"),
        (RETINANET, CLASSES, {"classes": ("cat")}, "classes='cat' is one text"),
        (
            RETINANET,
            "model",
            FOUR_LEVELS,
            "6 parameters, such as backbone.pyramid.levels.0.0",
        ),
        (RETINANET, "data_preprocessor", {"type": "TrackDataPreprocessor"}, "takes videos"),
    ],
)
def test_a_fault_is_found_and_told(name, place, value, named):
    cfg = small(name, {place: value})
    if place == "data_preprocessor":
        del cfg.model.data_preprocessor
    trial = diagnose(cfg, SIZE)
    assert named in texts(trial, are_wrong=True)[0]
    assert report(trial).endswith("not healthy")


@pytest.mark.parametrize(
    ("name", "place", "value", "named"),
    [
        (PSPNET, AUXILIARY_WEIGHT, -1.0, "aux.loss_ce is -"),
        # names that a data set has by default
        (RETINANET, "model.bbox_head.num_classes", 3, "num_classes = 3, but the training data"),
        (RETINANET, KEYS, {"backbone.trunk.blocks": {}}, "temperature of XCiT is decayed"),
    ],
)
def test_what_may_be_meant_so_is_a_note(name, place, value, named):
    trial = diagnose(small(name, {place: value}), SIZE)
    assert trial.is_healthy, report(trial)
    assert named in texts(trial, are_wrong=False)[0]


@pytest.mark.parametrize(
    ("name", "known", "noted", "wrong"),
    [
        (BYTETRACK, ["detector.neck"], ["tracker"], ["detector.nick"]),  # no tracker is built
        (SOFT_TEACHER, ["student.backbone", "teacher.backbone"], [], ["detector.backbone"]),
    ],
)
def test_keys_are_those_of_the_whole_model(name, known, noted, wrong):
    keys = {key: {"lr_mult": 1.0} for key in [*known, *noted, *wrong]}
    cfg = small(name)
    cfg.optim_wrapper.paramwise_cfg.custom_keys.update(keys)
    findings = [found for found in diagnose(cfg, SIZE).findings if found.text.startswith(KEYS)]
    assert [found.is_wrong for found in findings] == [False] * len(noted) + [True] * len(wrong)
    assert all(repr(key) in str(findings) for key in noted + wrong)


@pytest.mark.parametrize(
    "changes",
    [
        {"optim_wrapper.optimizer": {"type": "ZeroRedundancyOptimizer"}},  # wants processes
        {
            "optim_wrapper.type": "AmpOptimWrapper",  # wants a GPU
            "model.backbone.norm_cfg": {"type": "MMSyncBN"},
            "model.backbone.init_cfg": {"checkpoint": NOWHERE, "type": None},
        },
        {"default_scope": "mmseg", "model._scope_": "mmdet", "model.type": "mmdet.RetinaNet"},
        {"model": FOUR_LEVELS, "find_unused_parameters": True},
        {"model": FOUR_LEVELS, "model_wrapper_cfg": {"find_unused_parameters": True}},
    ],
)
def test_unusual_settings_are_healthy(changes):
    trial = diagnose(small(RETINANET, changes), SIZE)
    assert trial.is_healthy, report(trial)
    assert trial.losses


def test_names_of_classes_may_be_in_a_file(tmp_path):
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    classes = {CLASSES: {"classes": str(tmp_path / "names.txt")}}
    text, _ = texts(diagnose(small(RETINANET, classes), SIZE), are_wrong=True)
    assert "2 class names" in text


@MODELS.register_module()
class NeckWithWidthsOfItsOwn(BaseModule):
    def __init__(self, in_dims, init_cfg=None):
        super().__init__(init_cfg)
        self.layers = nn.ModuleList(nn.Conv2d(width, WIDTH, 1) for width in in_dims)

    def forward(self, maps):
        return [layer(tensor) for layer, tensor in zip(self.layers, maps, strict=True)]


def with_neck(kind, strides=(8, 16, 32), in_dims=(WIDTH,) * 3, **settings):
    cfg = small(RETINANET)
    cfg.model.backbone.init_cfg = None
    cfg.model.neck = {"type": kind, "in_dims": in_dims, **settings}
    cfg.model.bbox_head.anchor_generator.strides = strides
    return cfg


@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        ({}, []),
        ({"strides": [4, 8, 16]}, ["model.bbox_head.prior_generator.strides = [4, 8, 16]"]),
        ({"in_dims": (WIDTH, WIDTH, 7)}, ["a training step fails", "a prediction fails"]),
    ],
)
def test_a_neck_that_is_not_understood_is_judged_by_what_it_does(settings, wrong):
    trial = diagnose(with_neck("NeckWithWidthsOfItsOwn", **settings), SIZE)
    (text,) = texts(trial, are_wrong=False)
    assert "not compared" in text and "model.neck: NeckWithWidthsOfItsOwn" in text
    found = texts(trial, are_wrong=True)
    assert len(found) == len(wrong)
    assert all(part in text for part, text in zip(wrong, found, strict=True))


def test_a_check_that_does_not_understand_a_model_is_a_note(monkeypatch):
    def puzzled(trial):
        raise LookupError("what is this?")

    monkeypatch.setattr(checks, "CHECKS", [puzzled, *checks.CHECKS])
    trial = diagnose(small(RETINANET), SIZE)
    assert trial.is_healthy and trial.losses
    (text,) = texts(trial, are_wrong=False)
    assert "puzzled" in text and "what is this?" in text


def silent():
    assert not torch


@pytest.mark.parametrize(
    ("fail", "named"),
    [
        (lambda: import_module("mmcv._ext").rotated_op(), ["rotated_op", "an mmcv with"]),
        (lambda: torch.ones(2, 2).T.view(4), ["contiguous_outputs=True"]),
        (silent, ["AssertionError: assert not torch"]),  # by its line: mm asserts silently
    ],
)
def test_a_failure_is_told_with_its_remedy(fail, named, monkeypatch):
    def forward(self, maps):
        fail()

    monkeypatch.setattr(NeckWithWidthsOfItsOwn, "forward", forward)
    trial = diagnose(with_neck("NeckWithWidthsOfItsOwn"), SIZE)
    finding = next(found for found in trial.findings if "a training step fails" in found.text)
    assert all(part in str(finding) for part in named)


@pytest.mark.parametrize(
    "name",
    [
        "mmdet::tood/tood_r50_fpn_1x_coco.py",  # wants to know the epoch
        "mmdet::fast_rcnn/fast-rcnn_r50_fpn_1x_coco.py",  # wants proposals
        "mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py",  # fails on masks
        "mmdet::queryinst/queryinst_r50_fpn_1x_coco.py",  # predicts boxes outside of the image
        "mmseg::dmnet/dmnet_r50-d8_4xb4-80k_ade20k-512x512.py",  # views what it gets
    ],
)
def test_models_of_many_kinds_get_what_they_want(name):
    trial = diagnose(plan_swap(read(name), ARCH).config, (64, 64))
    assert trial.is_healthy, report(trial)
    assert trial.losses


@pytest.mark.parametrize(
    ("loader", "has_masks"),
    [
        ({"type": "LoadAnnotations", "with_bbox": True}, False),
        ({"type": "LoadAnnotations", "with_mask": True}, True),
        ({"type": "LoadPanopticAnnotations"}, True),
    ],
)
def test_objects_have_masks_where_training_loads_them(loader, has_masks):
    cfg = Config({"train_dataloader": {"dataset": {"pipeline": [loader]}}})
    (sample,) = random_batch(Trial(cfg), batch_size=1)["data_samples"]
    assert ("masks" in sample.gt_instances) == has_masks


@pytest.mark.parametrize(
    ("backbone", "image_size"),
    [
        ({"type": "MAE", "img_size": (64, 64), "out_indices": [0, 1, 2, 3]}, (64, 64)),
        ({"type": "BEiT", "img_size": 96, "out_indices": [0, 1, 2, 3]}, (96, 96)),
        ({"type": "VisionTransformer", "img_size": 96, "out_indices": (0, 1, 2, 3)}, (128, 128)),
    ],
)
def test_a_backbone_that_runs_on_its_own_size_only_gets_that(backbone, image_size):
    cfg = small(PSPNET, {"find_unused_parameters": True})
    cfg.optim_wrapper.paramwise_cfg.custom_keys = {"absolute_pos_embed": {"decay_mult": 0.0}}
    cfg.model.backbone = {"embed_dims": WIDTH, "num_layers": 4, "num_heads": 2, **backbone}
    trial = diagnose(cfg, (100, 128))  # rounded up, so that maps have whole places
    assert trial.is_healthy, report(trial)
    assert trial.image_size == image_size
    assert trial.losses
    # a key of other transformers than XCiT, of which mm's recipes have more than they need
    assert any("'absolute_pos_embed' matches no" in text for text in texts(trial, are_wrong=False))
