"""What is proposed: the recipe where data are like COCO, and what suits where they are not."""

import numpy as np
import pytest

from xcit_dense.data import proposals


def same(width, height, number=20):
    return np.tile([float(width), float(height)], (number, 1))


@pytest.mark.parametrize(
    ("image", "side", "scale"),
    [
        ((640, 480), 20, (768, 576)),  # a fifth larger, so that 20 pixels become 24
        ((640, 480), 200, (640, 480)),  # no smaller than the recipe's smallest
        ((640, 480), 4, (1056, 800)),  # no larger than its largest
        ((4000, 3000), 300, (640, 480)),
        ((4000, 3000), 29, (1632, 1216)),  # at 800 pixels all were less than 8
        ((1000, 900), 6, (992, 896)),  # never larger than it is beyond that
        ((200, 100), 30, (192, 96)),
    ],
)
def test_the_scale_follows_images_and_objects(image, side, scale):
    assert proposals.propose_scale(same(*image), same(side, side)) == scale


def test_small_objects_are_counted_after_scaling_as_mm_scales():
    images, boxes = same(1000, 500, 4), np.array([[15.0, 15], [16, 16], [32, 8], [4, 63]])
    # by 0.5, since the long side counts
    assert proposals.scaled(images, boxes, (500, 400))[0].tolist() == [7.5, 7.5]
    small, hint = proposals.notes_of_scale(proposals.scaled(images, boxes, (500, 400)), (500, 400))
    assert "and 50.0% than 8" in small and "a larger --scale" in hint


@pytest.mark.parametrize(
    ("boxes", "part", "scales", "ratios"),
    [
        (same(100, 100), "rpn_head", (8,), 3),
        (same(12, 12), "rpn_head", (4,), 3),
        (same(6, 6), "rpn_head", (2,), 3),
        (same(20, 300), "rpn_head", (8,), 5),
        (np.concatenate([same(12, 12), same(700, 700)]), "rpn_head", (4, 8), 3),
        (same(100, 100), "bbox_head", (4,), 3),
        (same(14, 14), "bbox_head", (3,), 3),
        (same(6, 6), "bbox_head", (1,), 3),
    ],
)
def test_anchors_suit_the_objects(boxes, part, scales, ratios):
    found, found_ratios = proposals.propose_anchors(boxes, part, notes := [])
    assert (found, len(found_ratios)) == (scales, ratios)
    assert ": 0.0% of the objects match none" in notes[0]
    is_default = scales == ((8,) if part == "rpn_head" else (4,)) and ratios == 3
    assert notes[0].endswith("COCO's anchors 0.0%") == is_default


def test_overlaps_are_those_of_mmdets_anchors():
    import torch
    from mmdet.models.task_modules import AnchorGenerator
    from mmdet.structures.bbox import bbox_overlaps

    generator = torch.Generator().manual_seed(0)
    boxes = torch.rand(200, 2, generator=generator) ** 3 * 700 + 1
    for part, form in (
        ("rpn_head", {"scales": [4, 8]}),
        ("bbox_head", {"octave_base_scale": 2, "scales_per_octave": 3}),
    ):
        strides, ratios = list(proposals.STRIDES[part]), [0.25, 0.5, 1.0, 2.0, 4.0]
        made = AnchorGenerator(strides=strides, ratios=ratios, **form)
        anchors = torch.cat(made.base_anchors)
        centred = torch.cat([-boxes / 2, boxes / 2], dim=1)
        best = bbox_overlaps(centred, anchors - (anchors[:, :2] + anchors[:, 2:]).repeat(1, 2) / 2)
        scales = tuple(form.get("scales", [form.get("octave_base_scale")]))
        share = proposals._share_unmatched(boxes.double().numpy(), part, scales, tuple(ratios))
        assert share == (best.amax(dim=1) < 0.3).double().mean()
