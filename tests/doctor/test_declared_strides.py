"""Strides that heads declare, or take by default, are compared with the maps they are given."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from xcit_dense.doctor import diagnose, report
from xcit_dense.doctor.declared_strides import parts_with_strides, stride_findings
from xcit_dense.doctor.map_sizes import sizes_of_given_maps
from xcit_dense.doctor.trial_model import TrialModel
from xcit_dense.mm.config_files import read_config

SIZE = (128, 256)
WIDTH = 32
ARCH = {"embed_dims": WIDTH, "depth": 4, "num_heads": 2, "eta": 1.0}
FCOS = "mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py"
RETINANET = "mmdet::retinanet/retinanet_r18_fpn_1x_coco.py"
FASTER_RCNN = "mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py"
YOLOX = "mmdet::yolox/yolox_tiny_8xb8-300e_coco.py"


def small_detector(name):
    """A detector of mm's with a small XCiT of four levels, or three, and narrow heads."""
    cfg = read_config(name)
    cfg.optim_wrapper = {}
    levels = len(cfg.model.neck.in_channels)
    cfg.model.backbone = {
        "type": "XCiT",
        "arch": ARCH,
        "out_strides": (4, 8, 16, 32)[-levels:],
    }
    cfg.model.neck.update(in_channels=[WIDTH] * levels, out_channels=WIDTH)
    cfg.find_unused_parameters = True  # of the finest level, where FPN begins at the second
    for head in ("bbox_head", "rpn_head"):
        if head in cfg.model:
            cfg.model[head].update(in_channels=WIDTH, feat_channels=WIDTH)
    if "roi_head" in cfg.model:
        cfg.model.roi_head.bbox_roi_extractor.out_channels = WIDTH
        cfg.model.roi_head.bbox_head.update(in_channels=WIDTH, fc_out_channels=WIDTH)
    return cfg


@pytest.mark.parametrize("name", [FCOS, RETINANET, FASTER_RCNN, YOLOX])
def test_mms_own_strides_are_right(name):
    diagnosis = diagnose(small_detector(name), SIZE)
    assert diagnosis.is_healthy, report(diagnosis)


@pytest.mark.parametrize(
    ("name", "change", "text"),
    [
        (
            FCOS,
            {"model.neck.start_level": 0},
            "model.bbox_head.strides = [8, 16, 32, 64, 128], "
            "but the maps have strides [4, 8, 16, 32, 64]",
        ),
        (
            FCOS,
            {"model.bbox_head.strides": [4, 8, 16, 32, 64]},
            "model.bbox_head.strides = [4, 8, 16, 32, 64], "
            "but the maps have strides [8, 16, 32, 64, 128]",
        ),
        (
            YOLOX,
            {"model.bbox_head.strides": (4, 8, 16)},
            "model.bbox_head.strides = [4, 8, 16], but the maps have strides [8, 16, 32]",
        ),
        (
            RETINANET,
            {"model.bbox_head.anchor_generator.strides": [10, 20, 40, 80, 160]},
            "model.bbox_head.anchor_generator.strides = [10, 20, 40, 80, 160], "
            "but the maps have strides [8, 16, 32, 64, 128]",
        ),
        (
            FASTER_RCNN,
            {"model.roi_head.bbox_roi_extractor.featmap_strides": [8, 16, 32, 64]},
            "model.roi_head.bbox_roi_extractor.featmap_strides = [8, 16, 32, 64], "
            "but the maps have strides [4, 8, 16, 32]",
        ),
        (
            FASTER_RCNN,
            {"model.roi_head.bbox_roi_extractor.featmap_strides": [16]},
            "model.roi_head.bbox_roi_extractor.featmap_strides = [16], "
            "but the maps have strides [4]",
        ),
    ],
)
def test_others_are_found_though_nothing_fails(name, change, text):
    cfg = small_detector(name)
    cfg.merge_from_dict(change)
    diagnosis = diagnose(cfg, SIZE)
    (finding,) = [finding for finding in diagnosis.findings if finding.is_wrong]
    assert finding.text == text
    assert finding.remedy.startswith("declare the strides of the maps, or have others made")
    assert diagnosis.losses


def semantic_fpn(feature_strides):
    cfg = read_config("mmseg::sem_fpn/fpn_r50_4xb4-160k_ade20k-512x512.py")
    cfg.optim_wrapper = {}
    cfg.model.backbone = {"type": "XCiT", "arch": ARCH}
    cfg.model.pretrained = None
    cfg.model.data_preprocessor.update(size=None, size_divisor=640)  # of real images
    cfg.model.neck.update(in_channels=[WIDTH] * 4, out_channels=WIDTH)
    cfg.model.decode_head.update(
        in_channels=[WIDTH] * 4, channels=WIDTH, num_classes=3, feature_strides=feature_strides
    )
    return cfg


def test_a_head_that_calls_its_own_forward_is_compared_on_images_that_nothing_pads():
    diagnosis = diagnose(semantic_fpn([4, 8, 16, 32]), SIZE)
    assert diagnosis.is_healthy, report(diagnosis)
    diagnosis = diagnose(semantic_fpn([8, 16, 32, 64]), SIZE)
    assert [finding.text for finding in diagnosis.findings if finding.is_wrong] == [
        "model.decode_head.feature_strides = [8, 16, 32, 64], "
        "but the maps have strides [4, 8, 16, 32]"
    ]


class Part(nn.Module):
    """Something that is given maps; as mmseg's heads, it calls its own ``forward``."""

    def __init__(self, **attributes):
        super().__init__()
        vars(self).update(attributes)

    def forward(self, maps, *more):
        return maps

    def loss(self, maps):
        return self.forward(maps)


def given(image_size, map_sizes, **attributes):
    """The findings where one part of a model is given maps of some heights and widths."""
    model = nn.ModuleDict({"part": Part(**attributes)})
    with sizes_of_given_maps(parts_with_strides(model)) as sizes:
        model["part"].loss([torch.zeros(1, 1, *size) for size in map_sizes])
    trial = TrialModel(model, {}, "model", image_size, None)
    return [finding.text for finding in stride_findings(trial, sizes)]


def generator(*strides):
    return SimpleNamespace(strides=strides)


def square(*sides):
    return [(side, side) for side in sides]


def test_what_is_given_counts_and_not_the_levels_of_the_neck():
    """The region extractor of HTC's semantic branch is given one fused map."""
    assert not given((128, 256), [(16, 32)], featmap_strides=[8])
    assert given((128, 256), [(32, 64)], featmap_strides=[8]) == [
        "model.part.featmap_strides = [8], but the maps have strides [4]"
    ]


@pytest.mark.parametrize(
    ("side", "sides", "strides"),
    [
        (300, (38, 19, 10, 5, 3, 1), (8, 16, 32, 64, 100, 300)),  # SSD300
        (320, (20, 10, 5, 3, 2, 1), (16, 32, 64, 107, 160, 320)),  # SSDLite
        (128, (16, 8, 4, 2, 1), [550 / places for places in (69, 35, 18, 9, 5)]),  # YOLACT
        (128, (4, 8, 16), [(32, 32), (16, 16), (8, 8)]),  # YOLOv3, from coarse to fine
    ],
)
def test_strides_are_right_where_the_maps_have_that_many_places(side, sides, strides):
    assert not given((side, side), square(*sides), prior_generator=generator(*strides))
    finer = square(*(2 * places for places in sides))
    (text,) = given((side, side), finer, prior_generator=generator(*strides))
    assert text.startswith("model.part.strides = [")


def test_both_directions_count_and_more_strides_than_maps_are_wrong():
    assert given((128, 256), [(8, 32)], prior_generator=generator(16))
    assert given((128, 128), square(16), prior_generator=generator(8, 16))


def test_heads_that_choose_among_levels_are_compared_with_those():
    maps = square(32, 16, 8)
    assert not given((128, 128), maps, feature_strides=(8, 16), in_index=[1, 2])
    assert given((128, 128), maps, feature_strides=(4, 8), in_index=[1, 2])


def test_an_index_that_no_level_has_is_left_to_the_training_step():
    assert given((128, 128), square(32, 16), feature_strides=(4, 8), in_index=[0, 9])
    assert given((128, 128), square(32, 16), feature_strides=(4, 8), in_index=[-9, 0])


@pytest.mark.parametrize(
    ("heads", "places"),
    [
        ({"featmap_strides": [8]}, ["model.heads"]),
        ([{"featmap_strides": [8]}] * 2, ["model.heads.0", "model.heads.1"]),
        ([], ["model.heads.0", "model.heads.1"]),
    ],
)
def test_stages_that_share_a_dict_are_named_once(heads, places):
    stages = nn.ModuleList(Part(featmap_strides=[8]) for _ in range(2))
    model = nn.ModuleDict({"heads": stages})
    trial = TrialModel(model, {"heads": heads}, "model", (128, 128), None)
    sizes = {"heads.0": square(32), "heads.1": square(32)}
    assert [finding.text for finding in stride_findings(trial, sizes)] == [
        f"{place}.featmap_strides = [8], but the maps have strides [4]" for place in places
    ]


@pytest.mark.parametrize("strides", [None, "8", [], [None], [0], [(8, 16)]])
def test_what_is_no_list_of_strides_is_left_alone(strides):
    assert not given((128, 128), square(3), featmap_strides=strides)


def test_parts_are_as_they_were_after_the_look():
    model = nn.ModuleDict({"part": Part(featmap_strides=[8])})
    with pytest.raises(KeyError), sizes_of_given_maps(parts_with_strides(model)):
        raise KeyError
    assert "forward" not in vars(model["part"])
