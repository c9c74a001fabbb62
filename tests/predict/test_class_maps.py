"""Class maps without the logits of all classes equal mmseg's."""

import pytest
import torch
from mmseg.models import EncoderDecoder
from mmseg.structures import SegDataSample
from torch import nn

from xcit_dense.predict import class_maps, keep_classes_only


def segmentor_of(kind, align_corners=False):
    """mmseg's post-processing, and no network."""
    model = kind.__new__(kind)
    nn.Module.__init__(model)
    model.align_corners = align_corners
    model.decode_head = nn.Identity()
    model.decode_head.threshold = 0.3
    return model


class SegmentorThatReadsLogits(EncoderDecoder):
    def predict(self, inputs, data_samples=None):
        return [found.seg_logits for found in super().predict(inputs, data_samples)]


LOGITS = torch.nn.functional.interpolate(
    torch.randn(2, 9, 5, 6, generator=torch.Generator().manual_seed(0)), (24, 31), mode="bicubic"
)
MARGINS = {"padding_size": [3, 0, 2, 5]}
DESCRIPTIONS = {
    "plain": {},
    "padded": MARGINS,
    "flipped": {"flip": True, "flip_direction": "horizontal", **MARGINS},
}


@pytest.mark.parametrize("numbers_at_a_time", [1, 12_000, 2**26])
@pytest.mark.parametrize("classes", [1, 2, 9])
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("description", DESCRIPTIONS.values(), ids=DESCRIPTIONS)
def test_equal_to_mmseg(monkeypatch, numbers_at_a_time, classes, align_corners, description):
    monkeypatch.setattr(class_maps, "NUMBERS_AT_A_TIME", numbers_at_a_time)
    found = []
    for is_lean in (False, True):
        segmentor = segmentor_of(EncoderDecoder, align_corners)
        assert not is_lean or keep_classes_only(segmentor)
        samples = [
            SegDataSample(metainfo={"ori_shape": size, **description})
            for size in [(60, 77), (11, 13)]
        ]
        found.append(segmentor.postprocess_result(LOGITS[:, :classes], samples))
    for expected, ours in zip(*found, strict=True):
        assert torch.equal(ours.pred_sem_seg.data.long(), expected.pred_sem_seg.data.long())
        assert len(ours.pred_sem_seg.data.unique()) > 1
        assert "seg_logits" not in ours


def test_models_with_a_way_of_their_own_stay():
    model = segmentor_of(SegmentorThatReadsLogits)
    assert not keep_classes_only(model)
    assert "postprocess_result" not in vars(model)
