"""Predictions in two lines equal mm's own, whatever the batch."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from pycocotools import mask as coco_mask

from xcit_dense.openmmlab.checkpoints import CheckpointError
from xcit_dense.openmmlab.prediction import Detections, Predictor, SegmentationMap
from xcit_dense.openmmlab.prediction.model import data_metainfo

CONFIGS = Path(__file__).parents[3] / "configs"


@pytest.fixture(scope="module")
def detect(detector):
    return Predictor(detector.config, detector.checkpoint, "cpu")


@pytest.fixture(scope="module")
def segment(segmentor):
    return Predictor(segmentor.config, segmentor.checkpoint, "cpu")


def test_detections_equal_those_of_mmdet(detector, detect, image_path):
    from mmdet.apis import inference_detector, init_detector

    model = init_detector(detector.config, detector.checkpoint, device="cpu")
    expected = inference_detector(model, str(image_path)).pred_instances
    ours = detect(image_path)
    assert isinstance(ours, Detections)
    assert len(ours) == len(expected) > 0
    assert np.array_equal(ours.boxes, expected.bboxes.numpy())
    assert np.array_equal(ours.scores, expected.scores.numpy())
    assert np.array_equal(ours.labels, expected.labels.numpy())
    decoded = [coco_mask.decode(mask) for mask in ours.masks]
    assert np.array_equal(decoded, expected.masks.numpy())
    assert 0 < np.mean([mask.mean() for mask in decoded]) < 0.95


def test_segmentations_equal_those_of_mmseg(segmentor, segment, image_path):
    from mmseg.apis import inference_model, init_model

    init_default_scope("mmseg")
    model = init_model(Config.fromfile(segmentor.config), segmentor.checkpoint, device="cpu")
    expected = inference_model(model, str(image_path)).pred_sem_seg.data[0].numpy()
    ours = segment(image_path)
    assert isinstance(ours, SegmentationMap)
    assert np.array_equal(ours.labels, expected)
    assert len(np.unique(ours.labels)) > 1


def test_a_batch_of_any_sizes_equals_its_images(detect, pixels):
    images = [pixels, pixels[:, ::-1].copy(), np.rot90(pixels).copy(), pixels[:20, :30]]
    together = detect.predict_batch(images)
    for image, one in zip(images, together, strict=True):
        alone = detect(image)
        # matrix products of other sizes round otherwise
        assert np.allclose(one.boxes, alone.boxes, atol=1e-2)
        assert np.array_equal(one.labels, alone.labels)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (37, 3), (90, 61)])
def test_any_size_of_image(detect, segment, size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    assert all(mask["size"] == list(size) for mask in detect(image).masks)
    assert segment(image).labels.shape == size


def test_other_pixels_are_refused(detect):
    with pytest.raises(ValueError, match=r"\(4, 4\) and type float64: expected uint8 \(H, W, 3\)"):
        detect(np.zeros((4, 4)))


def test_classes_and_colours(detect, segment):
    assert detect.categories.names == ("circle", "square", "triangle", "star", "cross")
    assert segment.categories.palette[1] == (230, 70, 60)


def save_changed(checkpoint, path, change):
    loaded = torch.load(checkpoint)
    change(loaded)
    torch.save(loaded, path)
    return path


def test_a_checkpoint_without_classes_takes_those_of_the_config(detector, tmp_path):
    path = save_changed(detector.checkpoint, tmp_path / "c.pth", lambda c: c.pop("meta"))
    assert Predictor(detector.config, path, "cpu").categories.names[0] == "circle"


def test_names_of_classes_as_mmdet_2_wrote_them(detector, tmp_path):
    def write_old_meta(checkpoint):
        checkpoint["meta"] = {"CLASSES": ("a", "b", "c", "d", "e"), "mmdet_version": "2.11.0"}

    path = save_changed(detector.checkpoint, tmp_path / "c.pth", write_old_meta)
    assert Predictor(detector.config, path, "cpu").categories.names == ("a", "b", "c", "d", "e")


def test_labels_without_names_are_an_error(segmentor, image_path, tmp_path):
    def name_too_few(checkpoint):
        checkpoint["meta"] = {"dataset_meta": {"classes": ("background",)}}

    path = save_changed(segmentor.checkpoint, tmp_path / "c.pth", name_too_few)
    with pytest.raises(ValueError, match=r"predicts label \d, but only 1 classes are named"):
        Predictor(segmentor.config, path, "cpu")(image_path)


@pytest.mark.parametrize(
    ("config", "number"), [("xcit_maskrcnn_coco.py", 80), ("xcit_upernet_ade20k.py", 150)]
)
def test_a_data_set_that_mm_knows_needs_no_names_in_the_config(config, number):
    metainfo = data_metainfo(Config.fromfile(CONFIGS / config))
    assert len(metainfo["classes"]) == len(metainfo["palette"]) == number


def test_a_checkpoint_of_another_model_is_refused(detector, segmentor):
    with pytest.raises(CheckpointError, match=r"does not fit the config: .*lacks \d+ of \d+"):
        Predictor(detector.config, segmentor.checkpoint, "cpu")


def test_a_checkpoint_of_another_width_is_refused(detector, tmp_path):
    def widen(checkpoint):
        state_dict = checkpoint["state_dict"]
        name = next(name for name in state_dict if name.endswith("fc_cls.bias"))
        state_dict[name] = torch.zeros(99)

    path = save_changed(detector.checkpoint, tmp_path / "c.pth", widen)
    with pytest.raises(CheckpointError, match=r"does not fit the config: .*fc_cls\.bias"):
        Predictor(detector.config, path, "cpu")


def test_weights_for_training_only_may_be_missing(segmentor, tmp_path):
    def slim(checkpoint):
        kept = checkpoint["state_dict"]
        for name in [name for name in kept if name.startswith("auxiliary_head.")]:
            del kept[name]

    Predictor(segmentor.config, save_changed(segmentor.checkpoint, tmp_path / "c.pth", slim), "cpu")


def test_a_score_threshold_keeps_what_belongs_together(detect, pixels):
    detections = detect(pixels)
    threshold = float(np.median(detections.scores))
    kept = detections.above(threshold)
    assert 0 < len(kept) < len(detections)
    assert len(kept.boxes) == len(kept.masks) == len(kept.labels)
    assert kept.scores.min() >= threshold
