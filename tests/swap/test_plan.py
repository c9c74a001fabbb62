"""What becomes of models of every kind, and which ones are declined, and why."""

import pytest
import timm
from mmengine.config import Config

import xcit_dense
from xcit_dense.mm.config import read_config
from xcit_dense.swap import SwapError, plan_swap

C = 128  # width of nano_12
WIDTHS = [64, 128, 256, 512]
RESNET = {"type": "ResNet", "depth": 18}
FPN = {"type": "FPN", "in_channels": WIDTHS}
VIT = {
    "type": "VisionTransformer",
    "img_size": 64,
    "embed_dims": 64,
    "num_layers": 4,
    "num_heads": 2,
    "out_indices": (0, 1, 2, 3),
}


def segmentor(backbone, decode_head, **rest):
    model = {"type": "EncoderDecoder", "backbone": backbone, "decode_head": decode_head, **rest}
    return Config({"default_scope": "mmseg", "model": model})


def detector(backbone=RESNET, **parts):
    model = {"type": "FasterRCNN", "backbone": backbone, **parts}
    return Config({"default_scope": "mmdet", "model": model})


def fcn(**settings):
    return {"type": "FCNHead", **settings}


def follow(node, key):
    for part in key.split("."):
        node = node[int(part)] if part.isdigit() else node[part]
    return node


# by config of mmdet or mmseg: the strides of XCiT, and what else its model says
SHIPPED = {
    # coarse to fine
    "mmdet::yolo/yolov3_d53_8xb8-320-273e_coco.py": (
        (8, 16, 32),
        {"neck.in_channels": [C] * 3, "neck.out_channels": [512, 256, 128]},
    ),
    # the last level only
    "mmdet::yolof/yolof_r50-c5_8xb8-1x_coco.py": ((32,), {"neck.in_channels": C}),
    # levels that are handed on behind the neck
    "mmdet::ssd/ssd300_coco.py": (
        (8, 16),
        {"neck.in_channels": (C, C), "bbox_head.in_channels": (C, C, 512, 256, 256, 256)},
    ),
    "mmseg::fastfcn/fastfcn_r50-d32_jpu_enc_4xb2-80k_cityscapes-512x1024.py": (
        (8, 16, 32),
        {"decode_head.in_channels": [C, C, 2048], "auxiliary_head.in_channels": C},
    ),
    # one level, to whose width the head is bound; inside of a tracker
    "mmdet::faster_rcnn/faster-rcnn_r50-caffe_c4-1x_coco.py": (
        (16,),
        {"neck.in_channels": [C], "neck.out_channels": 1024, "roi_head.shared_head.init_cfg": None},
    ),
    "mmdet::qdtrack/qdtrack_faster-rcnn_r50_fpn_4e_base.py": (
        None,
        {"detector.neck.in_channels": [C] * 4, "detector.init_cfg": None},
    ),
    "mmseg::deeplabv3plus/deeplabv3plus_r50-d8_4xb4-80k_ade20k-512x512.py": (
        (4, 8, 8),
        {"pretrained": None, "decode_head.in_index": 2, "decode_head.c1_in_channels": C}
        | {"auxiliary_head.in_index": 1},
    ),
    "mmseg::knet/knet-s3_r50-d8_fcn_8xb2-adamw-80k_ade20k-512x512.py": (
        (8, 8),
        {"decode_head.kernel_generate_head.in_channels": C},
    ),
    # a head that views what it gets, one that is told three levels and learns from one
    "mmseg::dmnet/dmnet_r50-d8_4xb4-80k_ade20k-512x512.py": (
        (8, 8),
        {"backbone.contiguous_outputs": True, "decode_head.in_index": 1},
    ),
    "mmseg::encnet/encnet_r50-d8_4xb4-80k_ade20k-512x512.py": (
        (8, 8),
        {"decode_head.in_channels": [C], "decode_head.in_index": (1,)},
    ),
}


@pytest.mark.parametrize("name", SHIPPED, ids=lambda name: name.split("/")[0])
def test_what_reads_the_backbone_follows(name):
    out_strides, expected = SHIPPED[name]
    model = xcit_dense.swap_backbone(read_config(name), arch="nano_12").model
    backbone = model.get("detector", model).backbone
    assert (backbone.type, backbone.get("out_strides")) == ("XCiT", out_strides)
    assert {key: follow(model, key) for key in expected} == expected


PYRAMID = {"type": "UPerHead", "in_channels": [64] * 4, "in_index": [0, 1, 2, 3]}
TO_PYRAMID = {"type": "Feature2Pyramid", "embed_dim": 64, "rescales": [4, 2, 1, 0.5]}
SSD = {"type": "SSDHead", "in_channels": WIDTHS}
TWO = {"in_channels": [64, 512], "in_index": [0, 3], "input_transform": "resize_concat"}
FCN = fcn(in_channels=64)
SYNCHRONIZED = {"type": "mmdet.MMSyncBN"}


@pytest.mark.parametrize(
    ("cfg", "expected"),
    [
        # a neck that makes a pyramid of one map gives way to XCiT's; without, one stride stays one
        (
            segmentor(VIT, PYRAMID, neck=TO_PYRAMID),
            {"neck": None, "decode_head.in_channels": [C] * 4},
        ),
        (segmentor(VIT, PYRAMID), {"backbone.out_strides": (16,) * 4}),
        # mmseg's necks do not read end_level
        (
            segmentor(RESNET, FCN, neck={**FPN, "num_outs": 3, "end_level": 3}),
            {"backbone.out_strides": (4, 8, 16), "neck.in_channels": [C] * 3, "neck.end_level": -1},
        ),
        (
            segmentor(RESNET, FCN, neck={**FPN, "type": "JPU", "start_level": 1, "end_level": 3}),
            {"backbone.out_strides": (8, 16), "neck.in_channels": [C] * 2},
        ),
        # heads
        (
            detector(a=SSD, b={**SSD}, c={**SSD, "in_channels": [7, 7]}),
            {"a.in_channels": [C] * 4, "b.in_channels": [C] * 4, "c.in_channels": [7, 7]},
        ),
        # a head that only classifies is as wide as what it reads
        (
            segmentor(RESNET, fcn(**TWO, channels=576, num_convs=0)),
            {"decode_head.channels": 2 * C},
        ),
        # a norm that wants several processes is measured alone, and stays
        (
            detector({**RESNET, "norm_cfg": SYNCHRONIZED}, neck={**FPN, "norm_cfg": SYNCHRONIZED}),
            {"neck.in_channels": [C] * 4, "neck.norm_cfg": SYNCHRONIZED},
        ),
    ],
)
def test_parts_of_models_follow(cfg, expected):
    model = plan_swap(cfg, "nano_12").config.model
    assert {key: follow(model, key) for key in expected} == expected


def test_what_the_old_backbone_was_told_is_kept_where_it_means_the_same():
    old = {**RESNET, "in_channels": 4, "with_cp": True, "frozen_stages": 1, "norm_eval": True}
    cfg = detector(old, neck=FPN)
    before = cfg.to_dict()
    assert plan_swap(cfg, "small_12", 8, "weights.pth").config.model.backbone == {
        "type": "XCiT",
        "arch": "small_12",
        "patch_size": 8,
        "norm_cfg": {"type": "SyncBN"},
        "drop_path_rate": 0.05,
        "in_channels": 4,
        "with_cp": True,
        "init_cfg": {"type": "Pretrained", "checkpoint": "weights.pth"},
    }
    assert cfg.to_dict() == before


def test_what_a_user_of_xcit_has_set_stays():
    options = {
        "norm_cfg": {"type": "GN", "num_groups": 4},
        "drop_path_rate": 0.3,
        "frozen_stages": 1,
        "attention": "direct",
        "contiguous_outputs": True,
    }
    old = {"type": "XCiT", "arch": "nano_12", "in_channels": 4, **options}
    cfg = detector(old, neck={**FPN, "in_channels": [C] * 4})
    backbone = plan_swap(cfg, "small_12", 8).config.model.backbone
    assert (backbone.arch, backbone.patch_size, backbone.in_channels) == ("small_12", 8, 4)
    assert {key: backbone[key] for key in options} == options


def test_imports_are_added_to():
    cfg = detector(neck=FPN)
    new = plan_swap(cfg).config.custom_imports
    assert new == {"imports": ["xcit_dense"], "allow_failed_imports": False}
    cfg.custom_imports = {"imports": "mine", "allow_failed_imports": True}
    new = plan_swap(cfg).config.custom_imports
    assert new == {"imports": ["xcit_dense", "mine"], "allow_failed_imports": True}


def test_the_old_run_is_neither_loaded_nor_gone_on_with():
    """Configs that runs leave in their work_dir name it."""
    cfg = detector(neck=FPN)
    cfg.merge_from_dict({"load_from": "old.pth", "resume": True, "work_dir": "work_dirs/old"})
    swap = plan_swap(cfg)
    new = swap.config
    assert (new.load_from, new.resume, new.work_dir) == (None, False, None)
    for value in ("old.pth", "True", "work_dirs/old"):
        assert any(f"was {value}" in note for note in swap.notes)


def test_a_backbone_of_timm_is_measured_without_its_weights(monkeypatch):
    create, asked = timm.create_model, []

    def spy(*args, **kwargs):
        asked.append(kwargs.pop("pretrained"))
        return create(*args, **kwargs)

    monkeypatch.setattr(timm, "create_model", spy)
    backbone = {"type": "TIMMBackbone", "model_name": "resnet18", "features_only": True}
    backbone |= {"out_indices": (1, 2, 3, 4), "pretrained": True}
    plan_swap(segmentor(backbone, fcn(in_channels=512, in_index=3)), arch="nano_12")
    assert asked and not any(asked)


def test_the_scope_is_that_of_the_models_class():
    cfg = detector(neck=FPN)
    cfg.default_scope = "mmseg"
    cfg.model.type = "mmdet.models.detectors.RPN"
    cfg.optim_wrapper = {"optimizer": {"type": "SGD", "lr": 0.1}}
    assert plan_swap(cfg).config.optim_wrapper.optimizer.lr == 1e-4  # that of detection
    cfg.default_scope = None
    assert plan_swap(cfg).config.model.backbone.type == "XCiT"


TWO_BACKBONES = {"a": {"backbone": RESNET}, "b": {"backbone": RESNET}}
TOKENS = {**VIT, "out_indices": 3, "output_cls_token": True}
COARSE = {**VIT, "patch_size": 64, "img_size": 128}
NAS = "mmdet::nas_fcos/nas-fcos_r50-caffe_fpn_nashead-gn-head_4xb4-1x_coco.py"


@pytest.mark.parametrize(
    ("cfg", "error"),
    [
        (NAS, "model.neck: NASFCOS_FPN"),
        ("mmseg::san/san-vit-b16_coco-stuff164k-640x640.py", "model: MultimodalEncoderDecoder"),
        (detector(neck={**FPN, "in_channels": [256, 512]}), "model.neck.in_channels: 2 widths"),
        (detector(neck={**FPN, "in_channels": [1] * 4}), r"model.neck.in_channels: .*\[64, 128"),
        (detector(neck={"type": "MyNeck"}), "model.neck: MyNeck does not say in_channels"),
        (detector(neck={**FPN, "start_level": 5}), "model.neck: start_level=5"),
        (detector(), "model: no neck, and no head"),
        (detector({**RESNET, "depth": 7}, neck=FPN), "model.backbone: .*invalid depth 7"),
        (Config({"default_scope": "mmdet", "model": TWO_BACKBONES}), "model: .*model.a.backbone, "),
        (segmentor(RESNET, fcn(in_channels=64, in_index=4)), "model.decode_head.in_index: 4"),
        (segmentor(RESNET, {"type": "MyHead"}), "model.decode_head: MyHead does not say which"),
        (segmentor(RESNET, fcn(in_channels=None)), "model.decode_head: .* not understood"),
        (segmentor(TOKENS, fcn(in_channels=64)), "model.backbone: .* does not give plain maps"),
        (segmentor(COARSE, PYRAMID), r"model.backbone: levels of strides \[64, 64, 64, 64\]"),
        (Config({"default_scope": "mmdet"}), "model: the config has none"),
        (Config({"model": {"backbone": RESNET}}), "default_scope: None, must be mmdet or mmseg"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_what_is_not_understood_is_an_error_that_says_where(cfg, error):
    with pytest.raises(SwapError, match=f"^{error}"):
        plan_swap(read_config(cfg) if isinstance(cfg, str) else cfg)


@pytest.mark.parametrize(("arch", "patch_size"), [("huge", 16), ("nano_12", 4)])
def test_sizes_that_there_are_not_are_an_error(arch, patch_size):
    with pytest.raises(ValueError, match=r"arch='huge'.*nano_12|patch_size=4.*8, 16"):
        plan_swap(detector(neck=FPN), arch, patch_size)
