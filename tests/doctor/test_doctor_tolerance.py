"""What the doctor does not know, or leaves out, is no fault of the model; what fails is."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.model import BaseModule
from mmseg.registry import MODELS as SEGMENTATION_MODELS
from torch import nn

from xcit_dense.cli.doctor import make_parser
from xcit_dense.doctor import diagnose, report
from xcit_dense.doctor.optimizer_keys import optimizer_findings
from xcit_dense.doctor.synthetic_batch import synthetic_batch
from xcit_dense.doctor.trial_model import TrialModel, build_trial_model
from xcit_dense.mm.config_files import read_config

WIDTH = 32
SIZE = (128, 128)
QDTRACK = "mmdet::qdtrack/qdtrack_faster-rcnn_r50_fpn_4e_base.py"
SOFT_TEACHER = "mmdet::soft_teacher/soft-teacher_faster-rcnn_r50-caffe_fpn_180k_semi-0.1-coco.py"


def texts(diagnosis, are_wrong):
    return [finding.text for finding in diagnosis.findings if finding.is_wrong == are_wrong]


@pytest.mark.parametrize(
    ("loader", "has_masks"),
    [
        (None, True),
        ({"type": "LoadAnnotations", "with_bbox": True}, False),
        ({"type": "LoadAnnotations", "with_mask": True}, True),
        ({"type": "mmdet.LoadTrackAnnotations"}, False),
        ({"type": "LoadPanopticAnnotations"}, True),
    ],
)
def test_objects_have_masks_where_training_loads_them(loader, has_masks):
    cfg = Config({"train_dataloader": {"dataset": {"pipeline": [loader] if loader else []}}})
    trial = TrialModel(SimpleNamespace(), {}, "model", SIZE, None)
    (sample,) = synthetic_batch(trial, cfg, batch_size=1)["data_samples"]
    assert ("masks" in sample.gt_instances) == has_masks


def test_a_detector_of_boxes_that_fails_on_masks_is_healthy():
    cfg = read_config("mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py")
    diagnosis = diagnose(cfg, SIZE)
    assert diagnosis.is_healthy, report(diagnosis)


@MODELS.register_module()
class NeckWithWidthsOfItsOwn(BaseModule):
    def __init__(self, in_dims, out_dim, init_cfg=None):
        super().__init__(init_cfg)
        self.layers = nn.ModuleList(nn.Conv2d(width, out_dim, 1) for width in in_dims)

    def forward(self, maps):
        return [layer(tensor) for layer, tensor in zip(self.layers, maps, strict=True)]


@MODELS.register_module()
class NeckThatLoadsItsWeights(NeckWithWidthsOfItsOwn):
    def init_weights(self):
        if self.init_cfg is None:
            raise AttributeError("no weights")


def retinanet(neck, **settings):
    cfg = read_config("mmdet::retinanet/retinanet_r18_fpn_1x_coco.py")
    cfg.optim_wrapper = {}
    cfg.model.backbone = {
        "type": "XCiT",
        "arch": {"embed_dims": WIDTH, "depth": 4, "num_heads": 2, "eta": 1.0},
        "out_strides": (8, 16, 32),
    }
    cfg.model.neck = {"type": neck, "in_dims": [WIDTH] * 3, "out_dim": WIDTH, **settings}
    cfg.model.bbox_head.update(in_channels=WIDTH, feat_channels=WIDTH)
    cfg.model.bbox_head.anchor_generator.strides = [8, 16, 32]
    return cfg


def test_a_neck_that_is_not_understood_is_a_note():
    diagnosis = diagnose(retinanet("NeckWithWidthsOfItsOwn"), SIZE)
    assert diagnosis.is_healthy, report(diagnosis)
    assert texts(diagnosis, are_wrong=False) == [
        "widths are not compared: model.neck: NeckWithWidthsOfItsOwn does not say in_channels: "
        "no way to tell what it reads"
    ]
    assert "the neck makes maps of strides 8, 16, 32" in report(diagnosis)


def test_a_neck_that_is_not_understood_and_fails_is_wrong():
    diagnosis = diagnose(retinanet("NeckWithWidthsOfItsOwn", in_dims=[WIDTH, WIDTH, 7]), SIZE)
    whats = [text.partition(" fails: RuntimeError: ")[0] for text in texts(diagnosis, True)]
    assert whats == ["running backbone and neck", "a training step", "a prediction"]


def test_a_neck_that_is_not_understood_has_its_strides_compared():
    cfg = retinanet("NeckWithWidthsOfItsOwn")
    cfg.model.bbox_head.anchor_generator.strides = [4, 8, 16]
    assert texts(diagnose(cfg, SIZE), are_wrong=True) == [
        "model.bbox_head.anchor_generator.strides = [4, 8, 16], "
        "but the maps have strides [8, 16, 32]"
    ]


@SEGMENTATION_MODELS.register_module(force=True)
class LossOfKnownLabels(nn.Module):
    """Looks up a weight for the label of every pixel, as mmseg 1.2.2's weighted cross entropy."""

    loss_name = "loss_known"

    def forward(self, logits, labels, ignore_index=255, **unused):
        weights = torch.ones(logits.shape[1])[labels]
        return (F.cross_entropy(logits, labels, reduction="none") * weights).mean()


def test_pixels_that_a_loss_cannot_ignore_are_a_note():
    cfg = read_config("mmseg::fcn/fcn_r18-d8_4xb2-80k_cityscapes-512x1024.py")
    cfg.model.decode_head.loss_decode = {"type": "LossOfKnownLabels"}
    cfg.model.auxiliary_head = None
    diagnosis = diagnose(cfg, SIZE)
    assert not texts(diagnosis, are_wrong=True)
    (text,) = texts(diagnosis, are_wrong=False)
    assert "a training step with pixels that are to be ignored fails: IndexError" in text
    assert "class_weight is a likely cause" in report(diagnosis)
    assert diagnosis.losses.keys() == {"decode.loss_known"}


def test_keys_of_mms_own_transformers_are_a_note():
    cfg = read_config("mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py")
    diagnosis = diagnose(cfg, SIZE)
    assert diagnosis.is_healthy, report(diagnosis)
    (text,) = texts(diagnosis, are_wrong=False)
    assert "'absolute_pos_embed' matches no parameter" in text


@pytest.mark.parametrize(
    ("name", "key", "is_wrong"),
    [
        (QDTRACK, "embed_head", False),  # of the part that is not built
        (QDTRACK, "detector.neck", None),
        (QDTRACK, "detector.nick", True),
        (SOFT_TEACHER, "student.backbone", None),
        (SOFT_TEACHER, "teacher.backbone", None),
        (SOFT_TEACHER, "detector.backbone", True),
    ],
)
def test_keys_are_those_of_the_whole_model(name, key, is_wrong):
    cfg = read_config(name)
    cfg.optim_wrapper.paramwise_cfg = {"custom_keys": {key: {"lr_mult": 0.1}}}
    trial = build_trial_model(cfg, SIZE)
    found = [(finding.text, finding.is_wrong) for finding in optimizer_findings(trial, cfg)]
    text = f"optim_wrapper.paramwise_cfg.custom_keys: {key!r} matches no parameter"
    assert found == ([] if is_wrong is None else [(text, is_wrong)])


def test_a_model_of_the_other_library_gets_its_own_samples():
    cfg = read_config("mmdet::retinanet/retinanet_r18_fpn_1x_coco.py")
    cfg.model.type, cfg.model["_scope_"], cfg.default_scope = "mmdet.RetinaNet", "mmdet", "mmseg"
    diagnosis = diagnose(cfg, SIZE)
    assert diagnosis.is_healthy, report(diagnosis)


def test_no_verdict_where_a_model_cannot_do_without_its_weights():
    weights = {"type": "Pretrained", "checkpoint": "https://nowhere.invalid/weights.pth"}
    diagnosis = diagnose(retinanet("NeckThatLoadsItsWeights", init_cfg=weights), SIZE)
    assert texts(diagnosis, are_wrong=False) == [
        "without its pretrained weights, which the doctor leaves out, initializing fails: "
        "AttributeError: no weights"
    ]
    assert diagnosis.is_healthy
    assert report(diagnosis).endswith("this is no verdict\nno verdict")

    diagnosis = diagnose(retinanet("NeckThatLoadsItsWeights"), SIZE)
    assert texts(diagnosis, are_wrong=True) == [
        "building the model fails: AttributeError: no weights"
    ]


def test_a_class_that_nobody_registered_has_a_remedy():
    (finding,) = diagnose(retinanet("NoNeck"), SIZE).findings
    assert finding.text.startswith(
        "building the model fails: KeyError: 'NoNeck is not in the mmdet"
    )
    assert finding.remedy == "mend the name, or name the module that registers it in custom_imports"


def segmentor(backbone):
    head = {
        "type": "FCNHead",
        "in_channels": WIDTH,
        "in_index": 3,
        "channels": 8,
        "num_convs": 1,
        "num_classes": 3,
        "loss_decode": {"type": "CrossEntropyLoss"},
    }
    model = {
        "type": "EncoderDecoder",
        "data_preprocessor": {"type": "SegDataPreProcessor", "size": (512, 512)},
        "backbone": {"embed_dims": WIDTH, "num_layers": 4, "num_heads": 2, **backbone},
        "neck": {"type": "Feature2Pyramid", "embed_dim": WIDTH, "rescales": [4, 2, 1, 0.5]},
        "decode_head": head,
        "test_cfg": {"mode": "whole"},
    }
    return Config({"default_scope": "mmseg", "model": model, "find_unused_parameters": True})


@pytest.mark.parametrize(
    ("backbone", "image_size"),
    [
        ({"type": "MAE", "img_size": (64, 64), "out_indices": [0, 1, 2, 3]}, (64, 64)),
        ({"type": "BEiT", "img_size": 96, "out_indices": [0, 1, 2, 3]}, (96, 96)),
        ({"type": "VisionTransformer", "img_size": 96, "out_indices": (0, 1, 2, 3)}, SIZE),
    ],
)
def test_a_backbone_that_runs_on_its_own_size_only_gets_that(backbone, image_size):
    diagnosis = diagnose(segmentor(backbone), SIZE)
    assert diagnosis.is_healthy, report(diagnosis)
    assert diagnosis.image_size == image_size
    assert diagnosis.losses.keys() == {"decode.loss_ce"}


def test_other_sizes_are_rounded_up_so_that_maps_have_whole_places():
    diagnosis = diagnose(retinanet("NeckWithWidthsOfItsOwn"), (100, 150))
    assert diagnosis.is_healthy, report(diagnosis)
    assert diagnosis.image_size == (128, 256)


@pytest.mark.parametrize("side", ["0", "-128", "63", "12.5", "many"])
def test_what_is_no_size_of_an_image_is_said_once(side, capsys):
    with pytest.raises(SystemExit) as exit:
        make_parser().parse_args(["config.py", "--size", side, "150"])
    assert exit.value.code == 2
    assert capsys.readouterr().err.endswith(
        f"error: argument --size: '{side}' must be a whole number of pixels, 64 or more\n"
    )
