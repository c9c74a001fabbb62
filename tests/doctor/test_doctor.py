"""A healthy model is called so, and planted faults are found, with their remedies."""

import pytest
from mmengine.config import Config

from xcit_dense.doctor import diagnose, report
from xcit_dense.doctor.failure import failure
from xcit_dense.swap import plan_swap
from xcit_dense.swap.config_source import ConfigSource

SIZE = (64, 128)
WIDTH = 32
XCIT = {
    "type": "XCiT",
    "arch": {"embed_dims": WIDTH, "depth": 4, "num_heads": 2, "eta": 1.0},
    "norm_cfg": {"type": "SyncBN"},
    "init_cfg": {"type": "Pretrained", "checkpoint": "https://nowhere.invalid/weights.pth"},
}
NO_DECAY = {"temperature": {"decay_mult": 0.0}, "layer_scale": {"decay_mult": 0.0}}


def config(name, **optimizer):
    cfg = ConfigSource.find(name).load()
    keys = optimizer.pop("custom_keys", NO_DECAY)
    cfg.optim_wrapper = {
        "optimizer": {"type": "AdamW", "lr": 1e-4, "weight_decay": 0.05},
        "paramwise_cfg": {"custom_keys": keys},
    }
    return cfg


def retinanet(**backbone):
    cfg = config("mmdet::retinanet/retinanet_r50_fpn_1x_coco.py")
    cfg.model.backbone = {**XCIT, "out_strides": (8, 16, 32), **backbone}
    levels = len(cfg.model.backbone.get("out_strides", "four"))
    cfg.model.neck.update(in_channels=[WIDTH] * levels, start_level=levels - 3, out_channels=32)
    cfg.model.bbox_head.update(in_channels=32, feat_channels=32, num_classes=3)
    return cfg


def pspnet():
    cfg = config("mmseg::pspnet/pspnet_r50-d8_4xb4-80k_ade20k-512x512.py")
    cfg.model.backbone = {**XCIT, "out_strides": (8, 8)}
    cfg.model.pretrained = None
    cfg.model.decode_head.update(in_channels=WIDTH, in_index=1, channels=32, num_classes=3)
    cfg.model.auxiliary_head.update(in_channels=WIDTH, in_index=0, channels=32, num_classes=3)
    return cfg


def wrong(diagnosis):
    return [finding.text for finding in diagnosis.findings if finding.is_wrong]


def test_a_healthy_detector():
    diagnosis = diagnose(retinanet(), SIZE)
    assert diagnosis.is_healthy, report(diagnosis)
    assert not diagnosis.findings
    assert diagnosis.losses.keys() == {"loss_cls", "loss_bbox"}
    assert [(level.stride, level.channels) for level in diagnosis.levels.backbone] == [
        (8, WIDTH), (16, WIDTH), (32, WIDTH)
    ]  # fmt: skip
    assert diagnosis.levels.readers == [["model.neck (in_channels 32)"]] * 3
    assert diagnosis.parameters > diagnosis.backbone_parameters > 0
    lines = report(diagnosis).splitlines()
    assert lines[0].startswith("RetinaNet: 0.")
    assert "the neck makes maps of strides 8, 16, 32, 64, 128" in lines
    assert "    1      16        32  model.neck (in_channels 32)" in lines
    assert lines[-1] == "healthy"


def test_a_healthy_segmentor():
    diagnosis = diagnose(pspnet(), SIZE)
    assert diagnosis.is_healthy, report(diagnosis)
    assert diagnosis.losses.keys() == {"decode.loss_ce", "aux.loss_ce"}
    assert diagnosis.levels.readers == [
        ["model.auxiliary_head (in_channels 32)"], ["model.decode_head (in_channels 32)"]
    ]  # fmt: skip


def test_the_detector_inside_of_a_tracker_is_what_is_tried():
    cfg = config("mmdet::bytetrack/bytetrack_yolox_x_8xb4-80e_crowdhuman-mot17halftrain_test-mot17halfval.py")  # noqa: E501  # fmt: skip
    inner = cfg.model.detector
    inner.backbone = {**XCIT, "out_strides": (8, 16, 32)}
    inner.neck.update(in_channels=[WIDTH] * 3, out_channels=32, num_csp_blocks=1)
    inner.bbox_head.update(in_channels=32, feat_channels=32)
    diagnosis = diagnose(cfg, SIZE)
    assert diagnosis.is_healthy, report(diagnosis)
    assert diagnosis.model_name == "YOLOX"
    assert diagnosis.levels.readers[0] == ["model.detector.neck (in_channels 32)"]


def test_a_wrong_width_is_named_with_its_place():
    cfg = retinanet()
    cfg.model.neck.in_channels = [WIDTH, WIDTH, 64]
    texts = wrong(diagnose(cfg, SIZE))
    assert texts[0] == "model.neck.in_channels: [32, 32, 64], but XCiT gives [32, 32, 32] there"
    assert any(text.startswith("a training step fails: RuntimeError") for text in texts)


def test_wrong_strides_are_found_though_nothing_fails():
    cfg = retinanet()
    cfg.model.bbox_head.anchor_generator.strides = [4, 8, 16, 32, 64]
    assert wrong(diagnose(cfg, SIZE)) == [
        "model.bbox_head.anchor_generator.strides = [4, 8, 16, 32, 64], "
        "but the maps have strides [8, 16, 32, 64, 128]"
    ]


def test_a_level_that_nobody_reads_has_no_gradient():
    cfg = retinanet(out_strides=(4, 8, 16, 32))
    diagnosis = diagnose(cfg, SIZE)
    (text,) = wrong(diagnosis)
    assert text == (
        "no gradient in 6 parameters: backbone.pyramid.levels.0.0.weight, "
        "backbone.pyramid.levels.0.0.bias, backbone.pyramid.levels.0.1.weight, "
        "backbone.pyramid.levels.0.1.bias and 2 more"
    )
    assert "remedy: distributed training waits" in report(diagnosis)
    assert "    0       4        32  nobody" in report(diagnosis)
    cfg.find_unused_parameters = True
    assert diagnose(cfg, SIZE).is_healthy


def test_keys_that_match_nothing_and_decay_of_temperatures_are_found():
    keys = {"backbone": {"lr_mult": 0.1}, "relative_position_bias_table": {"decay_mult": 0.0}}
    cfg = retinanet()
    cfg.optim_wrapper.paramwise_cfg = {"custom_keys": keys}
    diagnosis = diagnose(cfg, SIZE)
    assert wrong(diagnosis) == [
        "optim_wrapper.paramwise_cfg.custom_keys: 'relative_position_bias_table' "
        "matches no parameter"
    ]
    assert [finding.text for finding in diagnosis.findings if not finding.is_wrong] == [
        "optim_wrapper: the temperature of XCiT is decayed",
        "optim_wrapper: the layer_scale of XCiT is decayed",
    ]


@pytest.mark.parametrize(
    ("keys", "decayed"),
    [
        ({"backbone": {"decay_mult": 0.0}}, []),
        # a longer key comes before those of XCiT
        ({**NO_DECAY, "backbone.trunk.blocks": {"lr_mult": 0.5}}, ["temperature", "layer_scale"]),
    ],
)
def test_decay_is_that_of_the_optimizer(keys, decayed):
    cfg = retinanet()
    cfg.optim_wrapper.paramwise_cfg = {"custom_keys": keys}
    assert [finding.text for finding in diagnose(cfg, SIZE).findings] == [
        f"optim_wrapper: the {name} of XCiT is decayed" for name in decayed
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"constructor": "NoSuchConstructor"}, "KeyError: 'NoSuchConstructor is not in the"),
        ({"optimizer.type": "NoSuchOptimizer"}, "ValueError: NoSuchOptimizer is no optimizer"),
        ({"optimizer.momentum": 0.9}, "TypeError: "),
    ],
)
def test_an_optimizer_that_cannot_be_built_is_found(changes, message):
    cfg = retinanet()
    cfg.optim_wrapper.type = "AmpOptimWrapper"  # not built: it wants a GPU
    assert diagnose(cfg, SIZE).is_healthy
    cfg.merge_from_dict({f"optim_wrapper.{key}": value for key, value in changes.items()})
    (text,) = wrong(diagnose(cfg, SIZE))
    assert text.startswith(f"building the optimizer fails: {message}")


def test_an_optimizer_for_several_processes_is_not_built():
    cfg = retinanet()
    cfg.optim_wrapper.optimizer = {"type": "ZeroRedundancyOptimizer", "optimizer_type": "AdamW"}
    assert diagnose(cfg, SIZE).is_healthy


def test_unused_parameters_are_looked_for_where_mmengine_reads_it():
    cfg = retinanet(out_strides=(4, 8, 16, 32))  # of which nobody reads the first
    cfg.find_unused_parameters = True
    cfg.model_wrapper_cfg = {"type": "MMDistributedDataParallel"}
    assert not diagnose(cfg, SIZE).is_healthy
    cfg.find_unused_parameters = False
    cfg.model_wrapper_cfg.find_unused_parameters = True
    assert diagnose(cfg, SIZE).is_healthy


@pytest.mark.parametrize("ignored", [0, 7, 255])
def test_heads_ignore_the_label_that_they_are_told_to(ignored):
    cfg = pspnet()
    for head in (cfg.model.decode_head, cfg.model.auxiliary_head):
        head.ignore_index = ignored
    assert diagnose(cfg, SIZE).is_healthy


def test_heads_that_ignore_different_labels_get_none_of_them():
    cfg = pspnet()
    cfg.model.decode_head.ignore_index = 0
    assert diagnose(cfg, SIZE).is_healthy


def test_weights_without_a_type_are_left_out_too():
    cfg = retinanet(init_cfg={"checkpoint": "https://nowhere.invalid/weights.pth"})
    assert diagnose(cfg, SIZE).is_healthy


def test_a_negative_loss_is_a_note():
    cfg = pspnet()
    cfg.model.auxiliary_head.loss_decode.loss_weight = -1.0
    diagnosis = diagnose(cfg, SIZE)
    assert diagnosis.is_healthy
    (finding,) = diagnosis.findings
    assert finding.text.startswith("aux.loss_ce is -")


def test_an_assertion_without_a_text_is_told_by_its_line():
    try:
        assert isinstance(WIDTH, str)
    except AssertionError as error:
        error.args = ()  # pytest has written one
        finding = failure("a trial", error)
    assert finding.text == "a trial fails: AssertionError: assert isinstance(WIDTH, str)"


@pytest.mark.parametrize("value", ["inf", "nan"])
def test_a_loss_that_is_not_finite_is_found(value):
    cfg = pspnet()
    cfg.model.auxiliary_head.loss_decode.loss_weight = float(value)
    assert wrong(diagnose(cfg, SIZE)) == [f"aux.loss_ce is {value} in the first step"]


def test_a_model_that_cannot_be_built_is_one_finding():
    cfg = retinanet(patch_size=4)
    diagnosis = diagnose(cfg, SIZE)
    (text,) = wrong(diagnosis)
    assert text.startswith("building the model fails: ValueError: ")
    assert "patch_size=4: must be one of (8, 16)" in text
    assert report(diagnosis).endswith("not healthy")
    video = config("mmdet::mask2former_vis/mask2former_r50_8xb2-8e_youtubevis2019.py")
    assert wrong(diagnose(video)) == [
        "building the model fails: NotImplementedError: "
        "Mask2FormerVideo takes videos, and the trial has images only"
    ]
    assert wrong(diagnose(Config({"default_scope": "mmdet", "model": None}))) == [
        "building the model fails: ValueError: the config has no model"
    ]


def test_an_op_that_is_not_served_is_named(monkeypatch):
    from mmcv._ext import rotated_op
    from mmdet.models.necks import FPN

    def forward(self, maps):
        return rotated_op(maps)

    monkeypatch.setattr(FPN, "forward", forward)
    finding = next(f for f in diagnose(retinanet(), SIZE).findings if "training step" in f.text)
    assert "NotImplementedError: The mmcv op 'rotated_op' is not available" in finding.text
    assert finding.remedy == "install an mmcv with compiled ops, or do without this part"


@pytest.mark.parametrize(
    "name",
    [
        "mmdet::tood/tood_r50_fpn_1x_coco.py",  # wants to know the epoch
        "mmdet::fast_rcnn/fast-rcnn_r50_fpn_1x_coco.py",  # wants proposals
        "mmseg::dmnet/dmnet_r50-d8_4xb4-80k_ade20k-512x512.py",  # views what it gets
        "mmseg::encnet/encnet_r50-d8_4xb4-80k_ade20k-512x512.py",
    ],
)
def test_models_of_many_kinds_get_what_they_want(name):
    new = plan_swap(ConfigSource.find(name).load(), {**XCIT["arch"]}).config
    diagnosis = diagnose(new, SIZE)
    assert diagnosis.is_healthy, report(diagnosis)
