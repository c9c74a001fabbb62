"""Class maps without the logits of all classes equal mmseg's."""

import pytest
import torch
import torch.nn.functional as F
from dev.benchmark.peak_memory import measure_peak_memory
from mmseg.models import EncoderDecoder
from mmseg.structures import SegDataSample
from torch import nn

from xcit_dense.predict import class_maps
from xcit_dense.predict.class_maps import keep_classes_only, winning_classes


def segmentor_of(kind, align_corners=False):
    """mmseg's post-processing, and no network."""
    model = kind.__new__(kind)
    nn.Module.__init__(model)
    model.align_corners = align_corners
    model.decode_head = nn.Identity()
    model.decode_head.threshold = 0.3
    return model


def plain_segmentor(align_corners=False):
    return segmentor_of(EncoderDecoder, align_corners)


class SegmentorThatPostProcesses(EncoderDecoder):
    def postprocess_result(self, seg_logits, data_samples=None):
        return "own"


class SegmentorThatReadsLogits(EncoderDecoder):
    def predict(self, inputs, data_samples=None):
        return [found.seg_logits for found in super().predict(inputs, data_samples)]


def sample(size, **described):
    element = SegDataSample()
    element.set_metainfo({"ori_shape": size, **described})
    return element


def maps_of(segmentor, logits, samples):
    return [found.pred_sem_seg.data for found in segmentor.postprocess_result(logits, samples)]


def lean(segmentor):
    assert keep_classes_only(segmentor)
    return segmentor


@pytest.fixture(params=[1, 2**26], ids=["one by one", "together"])
def numbers_at_a_time(request, monkeypatch):
    monkeypatch.setattr(class_maps, "NUMBERS_AT_A_TIME", request.param)


SMOOTH = torch.nn.functional.interpolate(
    torch.randn(2, 9, 5, 6, generator=torch.Generator().manual_seed(0)), (24, 31), mode="bicubic"
)
LOGITS = {
    "smooth": SMOOTH,
    "noise": torch.randn(2, 9, 24, 31, generator=torch.Generator().manual_seed(1)),
    "many ties": SMOOTH.mul(2).round(),
    "all equal": torch.zeros(2, 9, 24, 31),
    "one class": SMOOTH + torch.arange(9)[:, None, None] * 100,
    "large": SMOOTH * 1e30,
}
MARGINS = {"padding_size": [3, 0, 2, 5]}
DESCRIPTIONS = {
    "plain": {},
    "padded": MARGINS,
    "padded in testing": {"img_padding_size": [0, 4, 0, 7], "padding_size": [0, 0, 0, 0]},
    "flipped": {"flip": True, "flip_direction": "horizontal", **MARGINS},
    "flipped upside down": {"flip": True, "flip_direction": "vertical", **MARGINS},
}


@pytest.mark.usefixtures("numbers_at_a_time")
@pytest.mark.parametrize("logits", LOGITS)
@pytest.mark.parametrize("size", [(90, 101), (24, 31), (7, 200), (10, 11), (1, 1)])
@pytest.mark.parametrize("align_corners", [False, True])
def test_equal_to_mmseg(logits, size, align_corners):
    samples = [sample(size), sample((size[1], size[0]))]  # two images of a batch, of other sizes
    expected = maps_of(plain_segmentor(align_corners), LOGITS[logits], samples)
    samples = [sample(size), sample((size[1], size[0]))]
    found = maps_of(lean(plain_segmentor(align_corners)), LOGITS[logits], samples)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours, theirs)
    assert not any("seg_logits" in element for element in samples)


@pytest.mark.usefixtures("numbers_at_a_time")
@pytest.mark.parametrize("description", DESCRIPTIONS.values(), ids=DESCRIPTIONS)
@pytest.mark.parametrize("size", [(60, 77), (11, 13)])
def test_padding_and_flips_are_undone_as_in_mmseg(description, size):
    (expected,) = maps_of(plain_segmentor(), SMOOTH[:1], [sample(size, **description)])
    (found,) = maps_of(lean(plain_segmentor()), SMOOTH[:1], [sample(size, **description)])
    assert torch.equal(found, expected)
    assert len(found.unique()) > 1


@pytest.mark.usefixtures("numbers_at_a_time")
def test_a_binary_segmentation_is_mmsegs():
    (expected,) = maps_of(plain_segmentor(), SMOOTH[:1, :1], [sample((40, 50))])
    (found,) = maps_of(lean(plain_segmentor()), SMOOTH[:1, :1], [sample((40, 50))])
    assert torch.equal(found, expected)
    assert found.unique().tolist() == [0, 1]


def test_logits_stay_where_there_are_no_data_samples():
    (expected,) = plain_segmentor().postprocess_result(SMOOTH[:1])
    (found,) = lean(plain_segmentor()).postprocess_result(SMOOTH[:1])
    assert torch.equal(found.seg_logits.data, expected.seg_logits.data)


@pytest.mark.parametrize("logits", LOGITS)
@pytest.mark.parametrize("size", [(90, 101), (24, 31), (5, 300)])
@pytest.mark.parametrize("align_corners", [False, True])
def test_no_class_is_left_out_that_wins_somewhere(logits, size, align_corners):
    for image in LOGITS[logits]:
        resized = F.interpolate(image[None], size, mode="bilinear", align_corners=align_corners)
        winners = resized[0].argmax(dim=0).unique()
        assert set(winners.tolist()) <= set(winning_classes(image).tolist())


def test_classes_that_cannot_win_are_left_out():
    logits = torch.zeros(5, 8, 8)
    logits[1, :, :4] = 5
    logits[3, :, 4:] = 5
    logits[4, 2, 2] = 4  # below class 1, which is there too
    # between the halves classes 1 and 3 may fall to 0, but not below
    assert winning_classes(logits).tolist() == [0, 1, 2, 3, 4]
    logits[[0, 2, 4]] -= 0.1
    assert winning_classes(logits).tolist() == [1, 3]


def test_a_class_that_is_not_a_number_hides_none():
    logits = torch.stack([torch.full((4, 4), torch.nan), torch.ones(4, 4), torch.zeros(4, 4)])
    assert winning_classes(logits).tolist() == [0, 1, 2]


def test_memory_does_not_grow_with_the_classes():
    size = (1500, 1500)
    logits = torch.randn(1, 48, 50, 50)  # 432 MB at that size
    segmentor = lean(plain_segmentor())
    peak, _ = measure_peak_memory(lambda: segmentor.postprocess_result(logits, [sample(size)]))
    assert peak.bytes < 8 * size[0] * size[1] * 8


OTHERS = [
    segmentor_of(SegmentorThatPostProcesses),
    segmentor_of(SegmentorThatReadsLogits),
    nn.Linear(2, 2),
]


@pytest.mark.parametrize("model", OTHERS, ids=lambda model: type(model).__name__)
def test_models_with_a_way_of_their_own_stay(model):
    assert not keep_classes_only(model)
    assert "postprocess_result" not in vars(model)
