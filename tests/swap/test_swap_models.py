"""What becomes of models of every kind, and which ones are declined, and why."""

import pytest
from mmengine.config import Config
from xcit_dense.swap.config_source import ConfigSource

import xcit_dense
from xcit_dense.swap import SwapError, plan_swap

C = 128  # width of nano_12


def shipped(name):
    return ConfigSource.find(name).load()


def swapped(name):
    return xcit_dense.swap_backbone(shipped(name), arch="nano_12")


def segmentor(backbone, decode_head, **rest):
    model = {"type": "EncoderDecoder", "backbone": backbone, "decode_head": decode_head, **rest}
    return Config({"default_scope": "mmseg", "model": model})


def detector(**parts):
    return Config({"default_scope": "mmdet", "model": {"type": "FasterRCNN", **parts}})


RESNET = {"type": "ResNet", "depth": 18}
FPN = {"type": "FPN", "in_channels": [64, 128, 256, 512]}
VIT = {
    "type": "VisionTransformer",
    "img_size": 64,
    "embed_dims": 64,
    "num_layers": 4,
    "num_heads": 2,
    "out_indices": (0, 1, 2, 3),
}


@pytest.mark.parametrize(
    ("name", "out_strides", "expected"),
    [
        # four levels through a neck
        (
            "mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py",
            None,
            {"neck.in_channels": [C] * 4},
        ),
        # three levels of four
        (
            "mmdet::retinanet/retinanet_r50_fpn_1x_coco.py",
            (8, 16, 32),
            {"neck.in_channels": [C] * 3, "neck.start_level": 0, "neck.num_outs": 5},
        ),
        # several necks in a row
        (
            "mmdet::dyhead/atss_r50_fpn_dyhead_1x_coco.py",
            (8, 16, 32),
            {"neck.0.in_channels": [C] * 3, "neck.1.in_channels": 256},
        ),
        # coarse to fine
        (
            "mmdet::yolo/yolov3_d53_8xb8-320-273e_coco.py",
            (8, 16, 32),
            {"neck.in_channels": [C] * 3, "neck.out_channels": [512, 256, 128]},
        ),
        # the last level only
        (
            "mmdet::yolof/yolof_r50-c5_8xb8-1x_coco.py",
            (32,),
            {"neck.in_channels": C},
        ),
        (
            "mmdet::centernet/centernet_r18_8xb16-crop512-140e_coco.py",
            (32,),
            {"neck.in_channels": C},
        ),
        (
            "mmdet::detr/detr_r50_8xb2-150e_coco.py",
            (32,),
            {"neck.in_channels": [C]},
        ),
        # levels that are handed on behind the neck
        (
            "mmdet::ssd/ssd300_coco.py",
            (8, 16),
            {
                "neck.in_channels": (C, C),
                "neck.out_channels": (C, C, 512, 256, 256, 256),
                "bbox_head.in_channels": (C, C, 512, 256, 256, 256),
            },
        ),
        (
            "mmseg::fastfcn/fastfcn_r50-d32_jpu_enc_4xb2-80k_cityscapes-512x1024.py",
            (8, 16, 32),
            {
                "neck.in_channels": (C, C, C),
                "decode_head.in_channels": [C, C, 2048],
                "auxiliary_head.in_channels": C,
            },
        ),
        # no neck
        (
            "mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco.py",
            None,
            {"panoptic_head.in_channels": [C] * 4, "panoptic_head.strides": [4, 8, 16, 32]},
        ),
        (
            "mmdet::faster_rcnn/faster-rcnn_r50-caffe_c4-1x_coco.py",
            (16,),
            {
                "neck": {
                    "type": "ChannelMapper",
                    "in_channels": [C],
                    "kernel_size": 1,
                    "out_channels": 1024,
                    "num_outs": 1,
                },
                "rpn_head.in_channels": 1024,
                "roi_head.shared_head.init_cfg": None,
            },
        ),
        # inside of a tracker
        (
            "mmdet::qdtrack/qdtrack_faster-rcnn_r50_fpn_4e_base.py",
            None,
            {"detector.neck.in_channels": [C] * 4, "detector.init_cfg": None},
        ),
        # segmentation: dilated stages, a low level beside the last one, lists, nested heads
        (
            "mmseg::pspnet/pspnet_r50-d8_4xb4-80k_ade20k-512x512.py",
            (8, 8),
            {
                "pretrained": None,
                "decode_head.in_channels": C,
                "decode_head.in_index": 1,
                "auxiliary_head.in_index": 0,
            },
        ),
        (
            "mmseg::deeplabv3plus/deeplabv3plus_r50-d8_4xb4-80k_ade20k-512x512.py",
            (4, 8, 8),
            {
                "decode_head.in_channels": C,
                "decode_head.in_index": 2,
                "decode_head.c1_in_channels": C,
                "decode_head.c1_channels": 48,
                "auxiliary_head.in_index": 1,
            },
        ),
        (
            "mmseg::hrnet/fcn_hr18_4xb4-80k_ade20k-512x512.py",
            None,
            {"decode_head.in_channels": [C] * 4, "decode_head.in_index": (0, 1, 2, 3)},
        ),
        (
            "mmseg::ocrnet/ocrnet_r101-d8_8xb2-40k_cityscapes-512x1024.py",
            (8, 8),
            {"decode_head.0.in_index": 0, "decode_head.1.in_index": 1},
        ),
        (
            "mmseg::knet/knet-s3_r50-d8_fcn_8xb2-adamw-80k_ade20k-512x512.py",
            (8, 8),
            {
                "decode_head.kernel_generate_head.in_channels": C,
                "decode_head.kernel_generate_head.in_index": 1,
                "decode_head.kernel_update_head.0.in_channels": 512,
            },
        ),
        # a head that views what it gets
        (
            "mmseg::dmnet/dmnet_r50-d8_4xb4-80k_ade20k-512x512.py",
            (8, 8),
            {"backbone.contiguous_outputs": True, "decode_head.in_index": 1},
        ),
        # a head that is told three levels, and learns from one
        (
            "mmseg::encnet/encnet_r50-d8_4xb4-80k_ade20k-512x512.py",
            (8, 8),
            {"decode_head.in_channels": [C], "decode_head.in_index": (1,)},
        ),
        (
            "mmseg::sem_fpn/fpn_r50_4xb4-160k_ade20k-512x512.py",
            None,
            {"neck.in_channels": [C] * 4, "decode_head.in_channels": [256] * 4},
        ),
    ],
    ids=lambda value: value.split("/")[0] if isinstance(value, str) else "",
)
def test_what_reads_the_backbone_follows(name, out_strides, expected):
    model = swapped(name).model
    backbone = model.get("detector", model).backbone
    assert backbone.type == "XCiT"
    assert backbone.get("out_strides") == out_strides
    flat = Config({"model": model})
    for key, value in expected.items():
        assert follow(flat.model, key) == value, key


def follow(node, key):
    for part in key.split("."):
        node = node[int(part)] if part.isdigit() else node[part]
    return node


def test_a_neck_that_makes_a_pyramid_of_one_map_gives_way_to_xcits():
    head = {"type": "UPerHead", "in_channels": [64] * 4, "in_index": [0, 1, 2, 3]}
    neck = {"type": "Feature2Pyramid", "embed_dim": 64, "rescales": [4, 2, 1, 0.5]}
    swap = plan_swap(segmentor(VIT, head, neck=neck), "nano_12")
    assert swap.config.model.neck is None
    assert "out_strides" not in swap.config.model.backbone
    assert swap.config.model.decode_head.in_channels == [C] * 4


def test_maps_of_one_stride_stay_maps_of_one_stride():
    head = {"type": "UPerHead", "in_channels": [64] * 4, "in_index": [0, 1, 2, 3]}
    swap = plan_swap(segmentor(VIT, head), "nano_12")
    assert swap.config.model.backbone.out_strides == (16,) * 4


def test_a_head_without_in_index_reads_the_last_level():
    head = {"type": "FCNHead", "in_channels": 512}
    swap = plan_swap(segmentor(RESNET, head), "nano_12")
    assert swap.config.model.backbone.out_strides == (32,)
    assert swap.config.model.decode_head == {"type": "FCNHead", "in_channels": C}


def test_every_head_that_reads_the_levels_follows():
    head = {"type": "SSDHead", "in_channels": [64, 128, 256, 512]}
    other = {"type": "Other", "in_channels": [7, 7]}
    cfg = detector(backbone=RESNET, head_a=head, head_b={**head}, head_c=other)
    model = plan_swap(cfg, "nano_12").config.model
    assert [model[f"head_{name}"].in_channels for name in "abc"] == [[C] * 4, [C] * 4, [7, 7]]


@pytest.mark.parametrize(
    ("head", "channels"),
    [
        ({"in_channels": 512, "channels": 512, "num_convs": 0}, C),
        (
            {
                "in_channels": [64, 512], "in_index": [0, 3], "channels": 576, "num_convs": 0,
                "input_transform": "resize_concat",
            },
            2 * C,
        ),
        ({"in_channels": 512, "channels": 512, "num_convs": 1}, 512),
    ],
)  # fmt: skip
def test_a_head_that_only_classifies_is_as_wide_as_what_it_reads(head, channels):
    cfg = segmentor(RESNET, {"type": "FCNHead", **head})
    assert plan_swap(cfg, "nano_12").config.model.decode_head.channels == channels


@pytest.mark.parametrize(
    ("indices", "widths"), [([0, 1, -1], [C, C, 2048]), ([0, -2, 2], [C, C, 2048])]
)
def test_levels_behind_jpu_are_counted_from_either_end(indices, widths):
    cfg = shipped("mmseg::fastfcn/fastfcn_r50-d32_jpu_enc_4xb2-80k_cityscapes-512x1024.py")
    cfg.model.decode_head.in_index = indices
    cfg.model.auxiliary_head.in_index = -2
    model = plan_swap(cfg, "nano_12").config.model
    assert model.decode_head.in_channels == widths
    assert model.auxiliary_head.in_channels == C


def test_norms_that_want_several_processes_are_measured_alone():
    norm = {"type": "mmdet.MMSyncBN"}
    cfg = detector(backbone={**RESNET, "norm_cfg": norm}, neck={**FPN, "norm_cfg": norm})
    model = plan_swap(cfg, "nano_12").config.model
    assert model.neck.in_channels == [C] * 4
    assert model.neck.norm_cfg == norm


def test_what_the_old_backbone_was_told_is_kept_where_it_means_the_same():
    old = {**RESNET, "in_channels": 4, "with_cp": True, "frozen_stages": 1, "norm_eval": True}
    cfg = detector(backbone=old, neck={"type": "FPN", "in_channels": [64, 128, 256, 512]})
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


def test_a_config_in_the_new_style_is_swapped_too(tmp_path):
    (tmp_path / "lazy.py").write_text(
        "from mmdet.models import FPN, ResNet, RetinaNet\n"
        'default_scope = "mmdet"\n'
        "neck = dict(type=FPN, in_channels=[64, 128, 256, 512], out_channels=32, num_outs=5)\n"
        "model = dict(type=RetinaNet, backbone=dict(type=ResNet, depth=18), neck=neck)\n"
    )
    cfg = xcit_dense.swap_backbone(Config.fromfile(tmp_path / "lazy.py"), "nano_12")
    assert cfg.model.backbone.type == "XCiT"
    assert cfg.model.neck.in_channels == [C] * 4


def test_the_config_that_is_given_stays_as_it_is():
    cfg = shipped("mmdet::retinanet/retinanet_r50-caffe_fpn_1x_coco.py")
    before = cfg.to_dict()
    xcit_dense.swap_backbone(cfg)
    assert cfg.to_dict() == before


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        (
            "mmdet::cornernet/cornernet_hourglass104_10xb5-crop511-210e-mstest_coco.py",
            "model.backbone: HourglassNet is more than a backbone: its stacked hourglasses",
        ),
        (
            "mmdet::detectors/detectors_cascade-rcnn_r50_1x_coco.py",
            "model.neck: RFP takes no other backbone: it feeds its maps back",
        ),
        (
            "mmdet::nas_fcos/nas-fcos_r50-caffe_fpn_nashead-gn-head_4xb4-1x_coco.py",
            "model.neck: NASFCOS_FPN takes no other backbone: it looks at four levels by number",
        ),
        ("mmseg::unet/unet-s5-d16_fcn_4xb4-40k_stare-128x128.py", "UNet is more than a backbone"),
        (
            "mmseg::san/san-vit-b16_coco-stuff164k-640x640.py",
            "model: MultimodalEncoderDecoder has no backbone=dict",
        ),
        (
            detector(backbone=RESNET, neck={**FPN, "in_channels": [256, 512, 1024, 2048]}),
            "model.neck.in_channels: .256, 512, 1024, 2048., but ResNet gives .64, 128, 256, 512.",
        ),
        (
            detector(backbone=RESNET, neck={**FPN, "in_channels": [64, 128]}),
            "model.neck.in_channels: 2 widths, but ResNet gives 4 levels",
        ),
        (
            detector(backbone=RESNET, neck={"type": "MyNeck", "widths": [1]}),
            "model.neck: MyNeck does not say in_channels: no way to tell what it reads",
        ),
        (detector(backbone=RESNET), "model: no neck, and no head with a list of in_channels"),
        (
            detector(backbone={"type": "TimmNet", "depth": 3}, neck=FPN),
            "model.backbone: TimmNet can not be run here: KeyError",
        ),
        (
            detector(backbone={**RESNET, "deep_stem": 3, "depth": 7}, neck=FPN),
            "model.backbone: ResNet can not be run here: KeyError: .*invalid depth 7 for resnet",
        ),
        (
            Config(
                {
                    "default_scope": "mmdet",
                    "model": {"a": {"backbone": RESNET}, "b": {"backbone": RESNET}},
                }
            ),
            "model: several backbones, model.a.backbone, model.b.backbone: which one",
        ),
        (
            segmentor(RESNET, {"type": "FCNHead", "in_channels": 64, "in_index": 4}),
            "model.decode_head.in_index: 4, but ResNet gives 4 levels",
        ),
        (
            segmentor(RESNET, {"type": "MyHead"}),
            "model.decode_head: MyHead does not say which widths it reads",
        ),
        (
            segmentor(RESNET, {"type": "MyHead", "in_index": 3}),
            "model.decode_head: MyHead does not say in_channels: it may read any width",
        ),
        (
            detector(backbone=RESNET, neck={**FPN, "start_level": 5}),
            "model.neck: start_level=5, end_level=-1 read none of 4 levels",
        ),
        (
            detector(backbone=RESNET, neck={**FPN, "start_level": None, "end_level": None}),
            "model.neck: what stands there is not understood .TypeError",
        ),
        (detector(backbone=RESNET, neck="FPN"), "model.neck: what stands there is not understood"),
        (segmentor(RESNET, "FCNHead"), "model.decode_head: what stands there is not understood"),
        (
            segmentor(RESNET, {"type": "FCNHead", "in_channels": None}),
            "model.decode_head: what stands there is not understood",
        ),
        (
            detector(backbone={"type": "RegNet", "arch": "regnetx_400mf", "frozen_stages": "all"}),
            "model.backbone: RegNet can not be run here",
        ),
        (
            segmentor({**VIT, "out_indices": 3, "output_cls_token": True}, {"in_channels": 64}),
            "VisionTransformer does not give plain maps",
        ),
        (Config({"default_scope": "mmdet"}), "model: the config has none"),
        (Config({"model": {"backbone": RESNET}}), "default_scope: None, must be one of mmdet"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_what_is_not_understood_is_an_error_that_says_where(cfg, message):
    with pytest.raises(SwapError, match=message):
        plan_swap(shipped(cfg) if isinstance(cfg, str) else cfg)


def test_an_unknown_architecture_is_an_error():
    with pytest.raises(ValueError, match="'huge' is unknown"):
        plan_swap(detector(backbone=RESNET, neck=FPN), "huge")


@pytest.mark.parametrize(
    ("neck", "strides"),
    [
        ({"type": "FPN", "num_outs": 3, "end_level": 3}, (4, 8, 16)),
        ({"type": "FPN", "num_outs": 2, "start_level": 1, "end_level": 3}, (8, 16)),
        ({"type": "JPU", "start_level": 1, "end_level": 3}, (8, 16)),
    ],
)
def test_the_end_level_of_mmsegs_necks_is_not_read(neck, strides):
    head = {"type": "FCNHead", "in_channels": 64, "in_index": 1, "channels": 8, "num_classes": 2}
    neck = {**neck, "in_channels": [64, 128, 256, 512]}
    widths = {"mid_channels": 64} if neck["type"] == "JPU" else {"out_channels": 64}
    model = xcit_dense.swap_backbone(
        segmentor(RESNET, head, neck={**neck, **widths}), arch="nano_12"
    ).model
    assert model.backbone.out_strides == strides
    assert model.neck.in_channels == [C] * len(strides)


def test_a_backbone_of_timm_is_measured_without_its_weights(monkeypatch):
    import timm

    create, asked = timm.create_model, []

    def spy(*args, **kwargs):
        asked.append(kwargs.get("pretrained"))
        return create(*args, **{**kwargs, "pretrained": False})

    monkeypatch.setattr(timm, "create_model", spy)
    head = {"type": "FCNHead", "in_channels": 512, "in_index": 3, "channels": 8, "num_classes": 2}
    for pretrained in ({}, {"pretrained": False}, {"pretrained": True}):
        backbone = {"type": "TIMMBackbone", "model_name": "resnet18", "features_only": True}
        backbone |= {"out_indices": (1, 2, 3, 4), **pretrained}
        xcit_dense.swap_backbone(segmentor(backbone, head), arch="nano_12")
    assert asked
    assert not any(asked)


def test_how_xcit_lays_out_its_maps_is_kept():
    cfg = detector(
        backbone={"type": "XCiT", "arch": "nano_12", "patch_size": 16, "contiguous_outputs": True},
        neck={"type": "FPN", "in_channels": [C] * 4, "out_channels": 64, "num_outs": 4},
    )
    assert xcit_dense.swap_backbone(cfg, arch="tiny_12").model.backbone.contiguous_outputs
